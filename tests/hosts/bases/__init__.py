"""Base machines: the kinds of host that the main job runs on. One module each; a new machine is one new module here.

A module names a Debian suite, the packages that its tree starts with (built once by mmdebstrap(1), then cached), a script
that makes it lived in, and a script that prints what must stay the same whatever the product does.
"""

from tests.hosts.bases.model import BaseMachine, LivedIn, lived_in
from tests.hosts.bases.registry import MACHINES, machine_named

__all__ = ["MACHINES", "BaseMachine", "LivedIn", "lived_in", "machine_named"]

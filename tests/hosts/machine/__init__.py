"""Real machines for tests: pristine Debian hosts in seconds, with a network, snapshots and guaranteed clean-up.

    with Machine() as host:
        host.clone_repository("/root/nqrust")
        host.run("cd /root/nqrust && ./scripts/install/install.sh --non-interactive")

Needs root, overlayfs and systemd-nspawn; `why_not()` says what is missing. Parallel runs do not meet: names, subnets
and base trees are handed out under locks, and what a killed run left behind is removed by the next one.
"""

from tests.hosts.machine.base import Base, base
from tests.hosts.machine.changes import Change, Mark
from tests.hosts.machine.fingerprint import Fingerprint
from tests.hosts.machine.inside import FileStat
from tests.hosts.machine.machine import Machine, Snapshot
from tests.hosts.machine.network import TestNetwork
from tests.hosts.machine.outside import OutsideError, why_not
from tests.hosts.machine.records import reap
from tests.hosts.machine.result import MachineError, Result, Running

__all__ = [
    "Base", "Change", "FileStat", "Fingerprint", "Machine", "MachineError", "Mark", "OutsideError", "Result", "Running",
    "Snapshot", "TestNetwork", "base", "reap", "why_not",
]  # fmt: skip

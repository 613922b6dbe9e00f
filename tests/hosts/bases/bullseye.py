"""Debian 11, whose Python is too old. It gets the archive that tests built (tests/hosts/machine/managed_python.py)."""

from tests.hosts.bases.model import BaseMachine

MACHINE = BaseMachine(
    name="bullseye",
    says="Debian 11, with a newer Python from a file",
    suite="bullseye",
    packages=("iproute2", "ca-certificates", "python3", "sudo"),
    inits=("systemd",),
)

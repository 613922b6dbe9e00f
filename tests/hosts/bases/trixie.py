"""Debian 13."""

from tests.hosts.bases.model import BaseMachine

MACHINE = BaseMachine(
    name="trixie",
    says="Debian 13",
    suite="trixie",
    packages=("iproute2", "ca-certificates", "python3", "sudo"),
)

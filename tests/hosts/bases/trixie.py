"""Debian 13."""

from tests.hosts.bases.model import BaseMachine

# Debian 13 loads kernel modules with libkmod2, which packages of nqr bring. The unit fails without it, and keeps the result of the
# last boot after the library has gone.
LAST_BOOT = r"^units active systemd-modules-load\.service$"

MACHINE = BaseMachine(
    name="trixie",
    says="Debian 13",
    suite="trixie",
    packages=("iproute2", "ca-certificates", "python3", "sudo"),
    moves=LAST_BOOT,
)

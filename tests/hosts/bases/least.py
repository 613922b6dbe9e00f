"""The least Debian 12: no sudo, root without a password that anyone could type, as container and cloud images are."""

from tests.hosts.bases.model import BaseMachine

MACHINE = BaseMachine(
    name="least",
    says="Debian 12 with next to nothing, without sudo, root locked",
    packages=("iproute2", "ca-certificates", "python3"),
    setup="passwd --quiet --lock root",
    ready="! command -v sudo",
    neighbour="grep ^root: /etc/shadow",
    every_run="plain",
)

"""A minimal Debian 12, like container and cloud images: no sudo, and root's password is locked."""

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

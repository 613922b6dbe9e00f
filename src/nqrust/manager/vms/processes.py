"""The process of a VM whose image is one of a container: what the image says, and what the request changes. Pure."""

from __future__ import annotations

from nqrust.contract.images import GuestProcess, ImageProcess
from nqrust.manager.errors import Invalid

LARGEST_COMMAND = 65_536
"""Characters. Lists of VMs have their commands."""


def complete(image: str, given: ImageProcess | None, command: list[str] | None, env: list[str]) -> GuestProcess | None:
    """Return the process; None for an image with an init of its own. Raises Invalid.

    A command replaces the image's command and keeps its entrypoint, as `docker run IMAGE COMMAND` does.
    """
    if given is None:
        if command or env:
            raise Invalid(
                f"Image {image} boots an init of its own, so it takes no command and no variables.",
                cure="Use an image of a container, or run the command with nqr vm exec.",
                code="NQR-IMG-045",
            )
        return None
    argv = [*given.entrypoint, *(given.command if command is None else command)]
    if not argv:
        raise Invalid(f"Image {image} names no command.", cure="Give one: nqr run IMAGE -- COMMAND", code="NQR-IMG-045")
    if sum(map(len, argv)) > LARGEST_COMMAND:
        raise Invalid(
            f"The command has more than {LARGEST_COMMAND} characters.",
            cure="Copy a script into the VM with `nqr vm cp`, or put it into the image, and run that.",
        )
    variables = {name: value for name, _, value in (one.partition("=") for one in (*given.env, *env))}
    return GuestProcess(
        argv=argv,
        env=[f"{name}={value}" for name, value in variables.items()],
        user=given.user,
        directory=given.directory,
        stop_signal=given.stop_signal,
    )

"""nqr run: a VM that runs the process of a container image, with its output and its exit code."""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import outlet, output
from nqrust.cli import pulling as image_pulling
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.signals import Stopped
from nqrust.cli.vm import guest_session
from nqrust.cli.vm import logs as vm_logs
from nqrust.cli.vm import options as opt
from nqrust.cli.vm import ports as vm_ports
from nqrust.cli.vm.names import checked
from nqrust.contract.text import argument
from nqrust.installer.engine.errors import NqrError, UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.images import Image, RegistryLogin
    from nqrust.contract.vms import Vm

Texts = list[str] | None
STARTED, ENDED = "nqr-init: started ", "nqr-init: ended with code "
"""Beginnings of lines of the guest's init, see guest-agent/src/init.rs."""
_LINE_END = re.compile(r"\r+\n")
_EVERY = 0.5
_FOR_STOP = 60.0
_COMING, _RUNS = ("pending", "starting"), ("running", "paused", "stopping", "unknown")


def build(app: typer.Typer) -> None:
    app.command(
        "run",
        help="Run a container image in a new VM.",
        context_settings={"allow_interspersed_args": False},
    )(run)


def run(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Container image, such as nginx:alpine. Pulled if missing.")],
    command: Annotated[Texts, typer.Argument(metavar="COMMAND", help="Command that replaces the image's own.")] = None,
    publish: Annotated[
        Texts, typer.Option("-p", "--publish", metavar="HOST:GUEST[/udp]", help="Forwarded port. Repeatable.")
    ] = None,
    env: Annotated[
        Texts, typer.Option("-e", "--env", metavar="NAME[=VALUE]", help="Variable. NAME alone takes nqr's own value. Repeatable.")
    ] = None,
    env_file: Annotated[str | None, typer.Option("--env-file", metavar="FILE", help="File with lines NAME=VALUE.")] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name of the VM (default: generated).")] = None,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Print the name of the VM and the addresses of its ports, then return.")
    ] = False,
    remove: Annotated[bool, typer.Option("--rm", help="Delete the VM when its process has ended.")] = False,
    restart: Annotated[
        str | None, typer.Option("--restart", metavar="never|on-failure|always", help="Restart policy (default: never).")
    ] = None,
    vcpus: opt.Vcpus = None,
    memory: opt.Memory = None,
    disk: opt.Disk = None,
    username: image_pulling.Username = None,
    password_file: image_pulling.PasswordFile = None,
    insecure: image_pulling.Insecure = False,
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    if detach and remove:
        raise UsageError("NQR-USE-003", "--rm and --detach exclude each other.", "Leave one of them out.")
    credentials = image_pulling.login(username, password_file)
    words = _command(image, command or [])
    variables, forwards = _variables(env or [], env_file), vm_ports.parse(publish or [])
    chosen = opt.fields(vcpus=vcpus, memory=memory, disk=disk, restart=restart or "never")
    chosen |= {"command": words or None, "env": variables or None, "forwards": forwards or None}
    checked(name=name or "any", image="any", **chosen)  # a wrong option costs no download
    with manager(url) as client:
        found = _image(client, image, credentials, insecure)
        asked = checked(name=name or _made_up(found.name), image=found.name, **chosen)
        vm = client.send(calls.create_vm(asked))
        if detach:
            vm = _started(client, vm)
            for address in vm_ports.addresses(client, vm, url):
                output.say(f"{vm.name} listens at {address}", err=True)
            output.say(vm.name)
            return
        with outlet.follows(guest_session.FAILED):
            code = _followed(client, vm)
        if remove:
            client.send(calls.delete_vm(vm.id))
            client.wait_for(vm.id, "deleted", timeout=_FOR_STOP)
    raise typer.Exit(code)


def _image(client: ManagerClient, reference: str, credentials: RegistryLogin | None, insecure: bool) -> Image:
    there = image_pulling.known(client, reference, cloud=False)  # a cloud image has no process to run
    if there is not None and there.state == "ready":
        return there
    return image_pulling.complete(client, image_pulling.request(reference, None, credentials, insecure))


def _command(image: str, words: list[str]) -> list[str]:
    """Return the words after the image, without the `--` that may lead them. Raises UsageError NQR-IMG-070.

    The parser leaves options after the image to the command, so that `nqr run IMAGE ls -l` works.
    """
    if words and words[0] == "--":
        return words[1:]
    if words and words[0].startswith("-"):
        raise UsageError(
            "NQR-IMG-070",
            f"{words[0]} comes after the image, so it would be the command of the VM.",
            f"Write options before the image: nqr run {words[0]} … {image}. A command that begins with a dash needs -- before it.",
        )
    return words


def _variables(given: list[str], path: str | None) -> list[str]:
    """Return NAME=VALUE of the options. A name alone takes the value from the environment of nqr. Raises UsageError NQR-USE-003."""
    lines = []
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                lines = [line.rstrip("\r\n") for line in file if line.strip() and not line.startswith("#")]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("NQR-USE-003", f"--env-file {path} cannot be read.", "Check the file.") from error
    found = []
    for text in (*lines, *given):
        name, equals, value = text.partition("=")
        if not name or "\0" in text:
            raise UsageError("NQR-USE-003", f"“{text}” is not a variable.", "Write NAME=VALUE.")
        if equals:
            found.append(f"{name}={value}")
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def _made_up(image: str) -> str:
    """Return a name for a VM: `nginx-1f3a` for the image `nginx-alpine`."""
    word = re.sub(r"[^a-z0-9]+", "-", image.split("-")[0].lower()).strip("-")[:40]
    return f"{word if word[:1].isalpha() else f'vm-{word}'.rstrip('-')}-{secrets.token_hex(2)}"


def _started(client: ManagerClient, vm: Vm) -> Vm:
    from nqrust.client import calls

    while vm.state.value in _COMING:
        time.sleep(_EVERY)
        vm = client.send(calls.get_vm(vm.id, fresh=True))
    if vm.state.value not in _RUNS and vm.exit_code is None:
        raise NqrError(
            "NQR-IMG-043",
            f"VM {vm.name} did not start: {vm.error.rstrip('.') or vm.state.value}.",
            f"See: nqr vm show {argument(vm.name)}",
        )
    return vm


def _followed(client: ManagerClient, vm: Vm) -> int:
    """Print the output of the process until it has ended, and return its exit code. A signal stops the VM."""
    from nqrust.client import calls

    shown, asked, ran = Output(), False, False
    while True:
        try:
            vm = client.send(calls.get_vm(vm.id, fresh=True)) if ran or asked else _started(client, vm)
            if vm.state.value not in _COMING:
                ran = True
                _show(shown.more(client.send(calls.console_log(vm.id, tail=vm_logs.WINDOW))))
                if vm.state.value not in _RUNS:
                    return _code(vm, asked)
            time.sleep(_EVERY)
        except Stopped:
            if asked:
                raise
            asked = True
            client.send(calls.stop_vm(vm.id))


def _code(vm: Vm, asked: bool) -> int:
    if vm.exit_code is not None:
        return vm.exit_code
    if asked:
        return 130
    raise NqrError(
        "NQR-IMG-043",
        f"VM {vm.name} ended without an exit code: {vm.error.rstrip('.') or vm.state.value}.",
        f"See: nqr vm logs {argument(vm.name)}",
    )


class Output:
    """Picks what the process wrote out of the console's log: after the line of its start, before the line of its end."""

    def __init__(self) -> None:
        self._log = self._rest = ""
        self._started = self._ended = False

    def more(self, log: str) -> str:
        """Return what is new. `log`: the whole log, or its last part."""
        # The guest's terminal adds a carriage return to each line, and the one of its serial line another.
        self._rest = _LINE_END.sub("\n", self._rest + vm_logs.added(self._log[-vm_logs.WINDOW :], log))
        self._log = log
        if not self._started:
            _, found, rest = self._rest.partition(STARTED)
            _, whole, rest = rest.partition("\n")
            if not found or not whole:
                return ""
            self._started, self._rest = True, rest
        if self._ended:
            return ""
        head, ended, _ = self._rest.partition(ENDED)
        self._ended = bool(ended)
        until = len(head) if ended else len(head) - _begun(head, ENDED)
        new, self._rest = self._rest[:until], self._rest[until:]
        return new


def _begun(text: str, mark: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `mark`, or of the end of a line."""
    if text.endswith("\r"):
        return len(text) - len(text.rstrip("\r"))
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0)


def _show(text: str) -> None:
    if text:
        typer.echo(output.without_sequences(text) if sys.stdout.isatty() else text, nl=False)
        sys.stdout.flush()

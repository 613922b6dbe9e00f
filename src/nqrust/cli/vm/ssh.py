"""nqr vm ssh: ssh(1) to a VM, with the host keys that its guest agent tells."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import threading
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from nqrust.cli import output, pages
from nqrust.cli.connection import ManagerError, ManagerUrl, is_here, manager
from nqrust.cli.vm import booting
from nqrust.cli.vm.guest_session import GuestSilent, Session, SessionFailed, connected, ticket
from nqrust.contract.guest import ExecRequest, Kind
from nqrust.contract.text import argument
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.vms import Vm

_PORT, _PATIENCE = 22, 3.0
_KEYS = "cat /etc/ssh/ssh_host_*_key.pub /etc/dropbear/*.pub 2>/dev/null"
_KEY = re.compile(r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]{40,2000}={0,3})(?: |$)", re.MULTILINE)
_MOST = 64 << 10
_FOR_KEYS = 15.0
"""Seconds that a guest has to tell its host keys. It may send something else without end."""
_WORD = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:-]{0,252}")


def build(app: typer.Typer) -> None:
    app.command("ssh", cls=pages.OfAnother, help="Sign in to a VM with SSH, or run a command there.")(ssh)


def ssh(
    name: Annotated[str, typer.Argument(metavar="[USER@]NAME", help="Name or id of the VM.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="Command. `--` may stand before it.")] = None,
    user: Annotated[str | None, typer.Option("-l", "--user", metavar="USER", help="User (default: the VM's, or root).")] = None,
    identity: Annotated[str | None, typer.Option("-i", "--identity", metavar="FILE", help="File with the private key.")] = None,
    jump: Annotated[
        str | None,
        typer.Option("-J", "--jump", metavar="HOST", help="Jump host (default: the VM's host, if needed)."),
    ] = None,
    accept_new: Annotated[
        bool, typer.Option("--accept-new", help="Accept the first host key if no guest agent reports one.")
    ] = False,
    boot_timeout: booting.BootTimeout = booting.PATIENCE,
    url: ManagerUrl = None,
) -> None:
    given, _, name = name.rpartition("@")
    user = user or given or None
    program = shutil.which("ssh")
    if program is None:
        raise UsageError(
            "NQR-USE-003", "ssh is not installed on this machine.", f"Install it, or use: nqr vm shell {argument(name)}"
        )
    for flag, value in (("--user", user), ("--jump", jump and jump.replace("@", ""))):
        if value is not None and not _WORD.fullmatch(value):
            raise UsageError("NQR-USE-003", f"{flag} cannot be “{value}”.", "See: nqr vm ssh --help")

    def attempt() -> tuple[Vm, str | None, list[str]]:
        vm = _running(name, url)
        keys = _host_keys(vm.name, url, accept_new)
        return vm, jump or _way(vm, url), keys

    vm, through, keys = booting.until_ready(
        name, url, boot_timeout, attempt, services=True, may_come=lambda: _may_serve(name, url)
    )
    argv = arguments(vm, keys, user=user, identity=identity, jump=through, command=command or [], file=_known_hosts(vm.id, keys))
    sys.stdout.flush()
    os.execv(program, argv)


def arguments(
    vm: Vm, keys: list[str], *, user: str | None, identity: str | None, jump: str | None, command: list[str], file: str
) -> list[str]:
    """Return the command line of ssh(1). Pure. `file`: with the known host keys. Without `keys`, the first one is accepted."""
    options = [
        f"HostKeyAlias={alias(vm.id)}",
        f"UserKnownHostsFile={file}",
        "GlobalKnownHostsFile=/dev/null",
        f"StrictHostKeyChecking={'yes' if keys else 'accept-new'}",
        *([f"ProxyJump={jump}"] if jump else []),
    ]
    words = [word for option in options for word in ("-o", option)]
    chosen = user or next(iter(vm.users), "root")
    return ["ssh", *words, *(["-i", identity] if identity else []), "-l", chosen, "--", str(vm.ip), *command]


def alias(vm_id: str) -> str:
    """The VM's name among the known hosts. Its address may have been another VM's before."""
    return f"nqr-{vm_id}"


def host_keys(text: str) -> list[str]:
    """Return the public keys in what a guest told, without comments. Pure."""
    return [f"{kind} {key}" for kind, key in _KEY.findall(text[:_MOST])][:16]


def warn_without_server(client: ManagerClient, vm: Vm) -> None:
    """Tell that nobody can sign in with a key, if the image is known to have no SSH server."""
    if _lacks_server(client, vm):
        output.say(
            f"Image {vm.image} has no SSH server: nobody can use the key. Sign in with: nqr vm shell {argument(vm.name)}",
            err=True,
        )


def _lacks_server(client: ManagerClient, vm: Vm) -> bool:
    """Return whether the image is known to have no SSH server."""
    from nqrust.client import calls
    from nqrust.client.manager import ClientError

    try:
        return client.send(calls.get_image(vm.image)).manifest.ssh_server is False
    except ClientError:
        return False


def _may_serve(name: str, url: str | None) -> bool:
    """Return whether a server may still start: its image has one, or nobody knows."""
    from nqrust.client import calls

    with manager(url) as client:
        return not _lacks_server(client, client.send(calls.get_vm(name)))


def _running(name: str, url: str | None) -> Vm:
    """Raises ManagerError NQR-IMG-063."""
    from nqrust.client import calls

    with manager(url) as client:
        vm = client.send(calls.get_vm(name))
        if vm.state.value != "running":
            raise _no_server(vm.name, f"it is {vm.state.value}")
    if vm.ip is None:
        raise _no_server(vm.name, "it has no address yet")
    return vm


def _way(vm: Vm, url: str | None) -> str | None:
    """Return the machine to go through; None if this one reaches the VM. Raises ManagerError NQR-IMG-063."""
    from nqrust.client import calls

    try:
        _knock(str(vm.ip))
        return None
    except ConnectionRefusedError:
        raise _no_server(vm.name, f"{vm.ip} refuses port {_PORT}") from None
    except OSError:
        with manager(url) as client:
            host = client.send(calls.get_host(vm.host)) if vm.host else None
    through = (urlsplit(host.url).hostname or "") if host else ""
    if not _WORD.fullmatch(through) or is_here(through, over_tls=True):
        raise _no_server(vm.name, f"this machine does not reach {vm.ip}")
    return through


def _knock(address: str) -> None:
    """Raises OSError if no SSH server accepts a connection."""
    socket.create_connection((address, _PORT), _PATIENCE).close()


def _no_server(name: str, why: str) -> booting.NotReady:
    return booting.NotReady(
        "NQR-IMG-063", f"No SSH server answers in {name}: {why}.", f"Sign in without SSH: nqr vm shell {argument(name)}"
    )


def _host_keys(name: str, url: str | None, accept_new: bool) -> list[str]:
    """Ask the guest agent. Raises ManagerError NQR-IMG-063, -064."""
    said = bytearray()

    def sink(kind: Kind, data: bytes) -> None:
        if kind is Kind.stdout and len(said) < _MOST:
            said.extend(data)

    try:
        address, trusted = ticket(name, url)
        with connected(address, name, trusted) as connection:
            session = Session(connection, name, sink)
            late = threading.Timer(_FOR_KEYS, connection.close)
            late.daemon = True
            late.start()
            try:
                session.start(ExecRequest((b"/bin/sh", b"-c", _KEYS.encode()), (), None, None))
                session.end_input()
                session.wait()
            finally:
                late.cancel()
    except SessionFailed as error:
        if accept_new:
            return []
        kind = booting.NotReady if isinstance(error, GuestSilent) else ManagerError
        raise kind(
            "NQR-IMG-064",
            f"The host keys of {name} are not known: {error.what.rstrip('.')}.",
            f"Wait until its guest agent answers, or accept the first key: nqr vm ssh {argument(name)} --accept-new",
        ) from error
    keys = host_keys(said.decode(errors="replace"))
    if not keys:
        raise _no_server(name, "it has no host key")
    return keys


def _known_hosts(vm_id: str, keys: list[str]) -> str:
    """Write the known keys of a VM into a file of this user, and return its path. Without keys, ssh adds the first one to it."""
    folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "nqr", "known_hosts")
    path = os.path.join(folder, alias(vm_id))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if keys:
            descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.writelines(f"{alias(vm_id)} {key}\n" for key in keys)
            os.replace(f"{path}.new", path)
    except OSError as error:
        raise UsageError("NQR-USE-011", f"{path} cannot be written: {error.strerror}.", "Check the folder's owner.") from error
    return path

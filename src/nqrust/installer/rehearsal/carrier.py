"""The clone's way out: slirp4netns(1), which carries what the clone sends on plain sockets of the host.

The program is the host's own where there is one. Elsewhere the distribution's package is installed into an overlay of its
own over the host, and runs from there: neither the host nor the clone has it. No rule, bridge, route or forwarding is
made on the host, and nothing can connect to the clone.
"""

from __future__ import annotations

import dataclasses
import os

from nqrust.host import namespaces as ns
from nqrust.host.errors import CommandFailed, HostError, ProgramMissing
from nqrust.host.port import Host
from nqrust.installer.distro.registry import DISTROS
from nqrust.installer.rehearsal import tree
from nqrust.installer.rehearsal.spec import GATEWAY, MTU, CloneSpec

PROGRAM = "slirp4netns"
"""Program and package; which archives have it is in docs/adr/0008."""
_READY = b"1"  # what slirp4netns says on --ready-fd


def arguments(program: str, uplink: str, clone: int, ready: int) -> tuple[str, ...]:
    """argv; `clone`: descriptor of its network namespace. The card is configured by `card.configure`."""
    return (
        program, "--disable-host-loopback", f"--cidr={GATEWAY.rpartition('.')[0]}.0/24", f"--mtu={MTU}",
        f"--ready-fd={ready}", "--netns-type=path", f"/proc/self/fd/{clone}", uplink,
    )  # fmt: skip


def run(spec: CloneSpec, host: Host, outside: int, clone: int, ready: int) -> None:
    """As the first process of a PID namespace: become slirp4netns in the network namespace `outside`. Where it cannot,
    say why on `ready` and return."""
    try:
        ns.setns(outside, ns.CLONE_NEWNET)
        ns.unshare(ns.CLONE_NEWNS)
        ns.mount("none", "/", flags=ns.MS_REC | ns.MS_PRIVATE)
        program = host.which(PROGRAM)
        if program and spec.loopback_resolver:
            _write(f"{spec.scratch}/resolver", f"nameserver {spec.loopback_resolver}\n")
            ns.bind(f"{spec.scratch}/resolver", os.path.realpath("/etc/resolv.conf"))
        program = program or _fetched(spec, host)
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        for descriptor in (clone, ready):
            os.set_inheritable(descriptor, True)
        os.execv(program, arguments(program, spec.uplink.name, clone, ready))
    except (HostError, OSError) as error:
        os.write(ready, str(error).encode())


def wait(ready: int) -> str:
    """Why there is no way out, "" when it is there. `ready`: the end of the pipe that is read."""
    said = os.read(ready, 4096)
    os.close(ready)
    return "" if said == _READY else said.decode(errors="replace") or f"{PROGRAM} ended"


def _fetched(spec: CloneSpec, host: Host) -> str:
    """Path of the program, in an overlay that this process makes its root. Raises HostError, OSError."""
    folder = f"{spec.scratch}/carrier"
    os.mkdir(folder, 0o700)
    with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
        own = dataclasses.replace(spec, scratch=folder, boot=False, loopback_resolver="", resolver=file.read())
    root, _, _ = tree.cover(own)
    tree.enter(own, root)
    install(host, spec.distro)
    if spec.loopback_resolver:  # slirp4netns asks the first one that is named
        _write("/etc/resolv.conf", f"nameserver {spec.loopback_resolver}\n")
    found = host.which(PROGRAM)
    if found is None:
        raise ProgramMissing(PROGRAM)
    return found


def install(host: Host, distro: str) -> None:
    """Install the package on `host` from the archive of `distro` (an id). Raises HostError."""
    manager = next((one.manager for one in DISTROS if one.id == distro), None)
    if manager is None:
        raise ProgramMissing(PROGRAM)
    for repair in manager.repair() if manager.interrupted(host) else ():
        host.run(repair)
    if manager.index_missing(host, (PROGRAM,)) is not None:
        host.run(manager.refresh())
    try:
        host.run(manager.install((PROGRAM,)))
    except CommandFailed as error:
        if not manager.outdated_index(error):
            raise
        host.run(manager.refresh())
        host.run(manager.install((PROGRAM,)))


def _write(path: str, content: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)

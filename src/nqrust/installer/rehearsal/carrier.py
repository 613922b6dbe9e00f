"""The clone's network: slirp4netns(1) sends the clone's traffic through plain sockets of the host.

It uses the host's program if present. Otherwise it installs the distribution's package into a separate overlay over the host
and runs it there. Neither the host nor the clone gets the package. The host gets no rule, bridge, route or forwarding, and no
connection can reach the clone.
"""

from __future__ import annotations

import dataclasses
import os

from nqrust.host import namespaces as ns
from nqrust.host.errors import CommandFailed, HostError, ProgramMissing
from nqrust.host.port import Host
from nqrust.installer.distro.registry import DISTROS
from nqrust.installer.rehearsal import tree
from nqrust.installer.rehearsal.reaching import name_of, reached
from nqrust.installer.rehearsal.spec import GATEWAY, MTU, CloneSpec
from nqrust.installer.verbs.packages.manager import trusting

PROGRAM = "slirp4netns"
"""Program and package; docs/adr/0008 lists the archives that have it."""
_READY = b"1"  # slirp4netns writes this to --ready-fd


def arguments(program: str, uplink: str, clone: int, ready: int) -> tuple[str, ...]:
    """Return the argv. `clone`: descriptor of its network namespace. `card.configure` configures the card."""
    return (
        program, "--disable-host-loopback", f"--cidr={GATEWAY.rpartition('.')[0]}.0/24", f"--mtu={MTU}",
        f"--ready-fd={ready}", "--netns-type=path", f"/proc/self/fd/{clone}", uplink,
    )  # fmt: skip


def run(spec: CloneSpec, host: Host, outside: int, clone: int, ready: int) -> None:
    """Become slirp4netns in the network namespace `outside`. Must be the first process of a PID namespace. On failure, write
    the reason to `ready` and return."""
    try:
        ns.setns(outside, ns.CLONE_NEWNET)
        ns.unshare(ns.CLONE_NEWNS)
        ns.mount("none", "/", flags=ns.MS_REC | ns.MS_PRIVATE)
        program = host.which(PROGRAM)
        if program and spec.loopback_resolver:
            _write(f"{spec.scratch}/resolver", f"nameserver {spec.loopback_resolver}\n")
            with reached("/", os.path.realpath("/etc/resolv.conf")) as target:
                ns.bind(f"{spec.scratch}/resolver", name_of(target))
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
    """Return why the clone has no network, or "" if it has one. `ready`: the read end of the pipe."""
    said = os.read(ready, 4096)
    os.close(ready)
    return "" if said == _READY else said.decode(errors="replace") or f"{PROGRAM} ended"


def _fetched(spec: CloneSpec, host: Host) -> str:
    """Return the path of the program in an overlay, which becomes this process's root. Raises HostError, OSError."""
    folder = f"{spec.scratch}/carrier"
    os.mkdir(folder, 0o700)
    with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
        own = dataclasses.replace(spec, scratch=folder, boot=False, loopback_resolver="", resolver=file.read())
    root, _, _ = tree.cover(own)
    tree.enter(own, root)
    install(host, spec.distro)
    if spec.loopback_resolver:  # slirp4netns uses the first name server
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
    for repair in manager.repair(host) if manager.interrupted(host) else ():
        host.run(repair)
    if manager.index_missing(host, (PROGRAM,)) is not None:
        host.run(trusting(host, manager, manager.refresh()))
    try:
        host.run(trusting(host, manager, manager.install((PROGRAM,))))
    except CommandFailed as error:
        if not manager.outdated_index(error):
            raise
        host.run(trusting(host, manager, manager.refresh()))
        host.run(trusting(host, manager, manager.install((PROGRAM,))))


def _write(path: str, content: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)

"""Lease files of ISC's DHCP client and of dhcpcd, which write them at any time: dhclient.leases(5), dhcpcd(8).

Each interface has a file of its own. A card that becomes a port of a bridge, or leaves it, hands its leases on. Without them,
a client gets no address while the DHCP server is away, or gets another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from shlex import quote

from nqrust.host.port import Host
from nqrust.installer.verbs.network.guard.change import FileChange, file_change

FOLDER = "/var/lib/dhcp"
_DHCPCD = "/var/lib/dhcpcd"
DHCPCD_MODE = 0o640
MARK = "# Written by nqr"
"""Start of the comment that nqr puts first."""


def is_lease(path: str) -> bool:
    return path.startswith((f"{FOLDER}/", f"{_DHCPCD}/"))


def of(client: str, name: str) -> str:
    """Return the file of a client (`dhclient`, `dhclient6`) for an interface, as ifupdown names it."""
    return f"{FOLDER}/{client}.{name}.leases"


def of_dhcpcd(name: str) -> tuple[str, ...]:
    """Return dhcpcd's files for an interface, of both families. They hold the server's answer, and no name of an interface."""
    return (f"{_DHCPCD}/{name}.lease", f"{_DHCPCD}/{name}.lease6")


def handed_on(text: str, old: str, new: str) -> str:
    """Return leases of the interface `old` for the interface `new`."""
    return re.sub(rf'interface "{re.escape(old)}"', f'interface "{new}"', text)


def back(host: Host, paths: Iterable[str], link: str, bridge: str) -> tuple[FileChange, ...]:
    """Return the changes that hand the leases of a bridge to its card. `paths`: lease files of the bridge. Raises HostError."""
    found = []
    for path in paths:
        if path in of_dhcpcd(bridge) and host.exists(path):
            found.append(file_change(host, _of_card(path, link, bridge), host.read_bytes(path), mode=DHCPCD_MODE))
        elif is_lease(path) and host.exists(path):
            lines = [line for line in host.read_text(path).splitlines(keepends=True) if not line.startswith(MARK)]
            text = handed_on("".join(lines), bridge, link)
            found.append(file_change(host, _of_card(path, link, bridge), text.encode()))
    return tuple(found)


def back_in_shell(path: str, link: str, bridge: str) -> str:
    """Return the same for one file as a line of POSIX sh."""
    words = [f"/^{MARK}/d", f's/interface "{bridge}"/interface "{link}"/']
    script = " ".join(f"-e {quote(word)}" for word in words)
    old = quote(path)
    if path in of_dhcpcd(bridge):
        return f"[ ! -e {old} ] || cp -p {old} {quote(_of_card(path, link, bridge))}"
    return f"[ ! -e {old} ] || sed {script} {old} >{quote(_of_card(path, link, bridge))}"


def _of_card(path: str, link: str, bridge: str) -> str:
    return path.replace(f"/{bridge}.", f"/{link}.") if path in of_dhcpcd(bridge) else path.replace(f".{bridge}.", f".{link}.")

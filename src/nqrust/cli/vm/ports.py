"""`nqr vm forward`: ports of a host that forward to a VM."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from nqrust import loopback
from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, manager, reached_from_elsewhere
from nqrust.cli.output import Output
from nqrust.cli.vm.settling import settled
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.vms import PortForward, Vm

_SCHEMES = {**dict.fromkeys((80, 3000, 5000, 8000, 8080, 8888), "http"), 443: "https", 8443: "https"}
"""Ports that web servers usually listen on."""
_FORWARD = re.compile(r"(\d{1,5}):(\d{1,5})(?:/(tcp|udp))?")


def forward(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the VM.")],
    ports: Annotated[
        list[str] | None,
        typer.Argument(metavar="HOST:GUEST[/udp]", help="All forwards of the VM (default: show them)."),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Remove all forwards.")] = False,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    if ports and none:
        raise UsageError("NQR-USE-003", "--none does not take ports.", "Name the ports, or give --none alone.")
    wanted = parse(ports or [])
    with manager(url) as client:
        found = client.send(calls.set_forwards(name, wanted)) if wanted or none else client.send(calls.get_vm(name))
        if wanted or none:
            found = settled(client, found, "forwards", "port forwards")
    output.listing(
        found,
        out,
        ("host port", "protocol", "guest port"),
        [(one.host_port, one.protocol, one.guest_port) for one in found.forwards],
        empty=f"No port leads to {found.name}.",
        name="host port",
    )


def addresses(client: ManagerClient, vm: Vm, url: str | None) -> list[str]:
    """Return where other machines reach the forwarded ports of a VM: as a URL, if the port is one of web servers."""
    from nqrust.client import calls

    if not vm.forwards or vm.host is None:
        return []
    host = urlsplit(client.send(calls.get_host(vm.host)).url).hostname or ""
    if loopback.is_local(host):
        host = urlsplit(reached_from_elsewhere(url)).hostname or host
    place = f"[{host}]" if ":" in host else host
    return [_address(place, one) for one in vm.forwards]


def _address(place: str, forward: PortForward) -> str:
    scheme = _SCHEMES.get(forward.guest_port) if forward.protocol == "tcp" else None
    if scheme is not None:
        return f"{scheme}://{place}:{forward.host_port}"
    return f"{place}:{forward.host_port} ({forward.protocol} {forward.guest_port})"


def parse(given: list[str]) -> list[PortForward]:
    """Parse `8080:80`, `5353:53/udp`: host port, guest port, protocol."""
    from nqrust.contract.vms import PortForward

    found = []
    for text in given:
        match = _FORWARD.fullmatch(text)
        if match is None or not all(1 <= int(port) <= 65535 for port in match.groups()[:2]):
            raise UsageError(
                "NQR-USE-003",
                f"“{text}” is no port forward.",
                "Give HOSTPORT:GUESTPORT, with /udp for UDP: 8080:80.",
            )
        host_port, guest_port, protocol = match.groups()
        found.append(
            PortForward.model_validate(
                {"protocol": protocol or "tcp", "host_port": int(host_port), "guest_port": int(guest_port)}
            )
        )
    return found

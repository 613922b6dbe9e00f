"""The hops of a LAN's bridge that need no VM: the bridge, and the rules for the VMs on it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from nqrust.contract.names import LAN_TABLE
from nqrust.host.port import Host, command
from nqrust.installer.context import Context
from nqrust.installer.proofs.frames import finished
from nqrust.installer.proofs.hops import Failed, Hop, Unproven
from nqrust.installer.verbs.firewall.kernel import NO_IPV6, why_no_ipv6


def lan(context: Context, host: Host) -> Iterator[Hop]:
    """Yield the hops. Their names are those of a VM network of nqr's own."""
    name = context.settings.network.bridge_name
    yield Hop(
        "bridge",
        "NQR-VER-004",
        f"Look at the configuration of {name} in this host's network manager.",
        lambda: _bridge(host, name),
    )
    yield Hop(
        "firewall",
        "NQR-VER-012",
        "Run `nqr install` again; it puts the rules back.",
        lambda: _firewall(host, f"{context.layout.libexec_dir}/nqrust-network"),
    )


def _bridge(host: Host, name: str) -> str:
    folder = f"/sys/class/net/{name}"
    if host.stat(f"{folder}/bridge") is None:
        raise Failed(f"there is no bridge {name}")
    ports = [port for port in host.listdir(f"{folder}/brif") if host.stat(f"/sys/class/net/{port}/tun_flags") is None]
    if not ports:
        raise Failed(f"{name} has no network card as a port")
    shown = host.run(command("ip", "-j", "-4", "address", "show", "dev", name, ok=(0, 1))).stdout
    found = [f"{a['local']}/{a['prefixlen']}" for link in json.loads(shown or "[]") for a in link.get("addr_info", [])]
    if not found:
        raise Failed(f"{name} has no IPv4 address for the reports of VMs")
    return f"{name} has {found[0]} and the port{'s' if len(ports) > 1 else ''} {', '.join(ports)}"


def _firewall(host: Host, script: str) -> str:
    code = host.run(command(script, "check", ok=(0, 1, 2))).code
    if code == 1:
        raise Failed("rules that keep VMs from this host are missing")
    if code:
        raise Unproven(f"{script} is of an earlier version; run `nqr install` again")
    reason = why_no_ipv6(host)
    if reason and reason != NO_IPV6:
        raise Unproven(f"{reason}, so nothing keeps VMs from this host over IPv6")
    finished(host)
    return f"VMs reach the relay and ping of this host; nftables table {' '.join(LAN_TABLE)} filters their ports"

"""Checks of packet filters besides iptables. A packet must pass all of them, so nqr's rules alone cannot accept it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.preflight.findings import Finding, warning
from nqrust.installer.settings.model import NetworkMode, Settings

_HOOKS = {"input": "iifname {0} accept", "forward": "iifname {0} accept; nft insert rule {1} oifname {0} accept"}


def drops_by_default(settings: Settings, host: Host, known: bool) -> Iterator[Finding]:
    """Warn about nftables(8) chains with policy drop. Skips iptables-nft chains (in capitals), because nqr's rules precede
    them."""
    if known or not settings.has_agent or settings.network.mode is NetworkMode.bridged or host.which("nft") is None:
        return
    try:
        listed = json.loads(host.run(command("nft", "--json", "list", "chains", timeout=30)).stdout)["nftables"]
        chains = [entry["chain"] for entry in listed if "chain" in entry]
    except (HostError, ValueError, KeyError, TypeError):
        return  # a kernel without nftables has no such chains
    for chain in chains:
        rule = _HOOKS.get(chain.get("hook", ""))
        if rule and chain.get("policy") == "drop" and chain["family"] in ("ip", "inet") and not chain["name"].isupper():
            name = f"{chain['family']} {chain['table']} {chain['name']}"
            yield warning(
                "NQR-PRE-035",
                f"The nftables chain {name} drops packets that no rule accepts, including packets of VMs.",
                f"Accept the VM bridge there: `nft insert rule {name} {rule.format(settings.network.bridge_name, name)}`.",
            )

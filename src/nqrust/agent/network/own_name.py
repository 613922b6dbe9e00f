"""A VM speaks in its own name: rules for the port of one VM. nft(8), bridge family.

ARP is no packet of IP, so no rule of iptables(8) sees it. A guest that answers for an address would get what the host sends there.
The host asks who has the address of a VM that is off. It also asks again for one that runs: dnsmasq enters the MAC of each client
itself, and the agent's permanent entry is an ordinary one then (arp(7), SIOCSARP). With these rules only its own VM can answer, so
nothing needs to make the entry permanent at once.

A machine that looks whether an address is free asks from 0.0.0.0; RFC 5227, 2.1.1. The host learns nothing from that.
"""

from __future__ import annotations

from nqrust.contract.text import word


def own_mac(mac: str) -> list[str]:
    """Return the rules that tie frames, and what ARP says in them, to a MAC. Pure."""
    return [f"ether saddr != {word(mac)} drop", f"arp saddr ether != {word(mac)} drop"]


def own_address(ip: str | None) -> list[str]:
    """Return the rule that ties ARP to the address that nqr gave a VM. Pure. Without an address, it has none to speak for."""
    listed = ", ".join(["0.0.0.0", *([word(ip)] if ip else [])])
    return [f"arp saddr ip != {{ {listed} }} drop"]

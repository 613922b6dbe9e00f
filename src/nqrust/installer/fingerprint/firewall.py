"""Packet filter rules from nft(8) and iptables-save(8), without counters and handles.

Empty base chains that accept everything do not count: they pass every packet, and iptables-nft creates them by merely
listing.
"""

from __future__ import annotations

import json
import re
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, command
from nqrust.installer.fingerprint.model import Section

_COUNTERS = re.compile(r"\[\d+:\d+\]\s*")


def take(host: Host, unread: list[str]) -> Section:
    found: Section = {}
    if host.which("nft") is not None:
        try:
            found.update(parse_nft(host.run(command("nft", "--json", "list", "ruleset", timeout=30)).stdout))
        except (HostError, ValueError) as error:
            unread.append(f"nft: {error}")
    for program, tables in (
        ("iptables-save", ""),
        ("ip6tables-save", ""),
        # The older kernel interface, beside nftables. A query would load its modules on a host that does not use it.
        ("iptables-legacy-save", "/proc/net/ip_tables_names"),
        ("ip6tables-legacy-save", "/proc/net/ip6_tables_names"),
    ):
        if host.which(program) is None or (tables and not text(host, tables).strip()):
            continue
        try:
            found.update(parse_save(host.run(command(program, timeout=30)).stdout, program.removesuffix("-save")))
        except HostError as error:
            unread.append(f"{program}: {error}")
    return found


def parse_save(content: str, program: str) -> Section:
    """Return `PROGRAM TABLE CHAIN` -> rules in order. Includes chains of others, and policies other than accept."""
    found: Section = {}
    table = ""
    for raw in content.splitlines():
        line = raw.strip()
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chain, _, policy = line[1:].partition(" ")
            policy = policy.split(" ")[0]
            if policy not in ("ACCEPT", ""):
                what = "chain" if policy == "-" else f"policy {policy}"
                found.setdefault(f"{program} {table} {chain}", []).insert(0, what)
        elif match := re.match(r"(?:\[\d+:\d+\]\s*)?-A (\S+) ?(.*)", line):
            rule = _COUNTERS.sub("", match.group(2))
            found.setdefault(f"{program} {table} {match.group(1)}", []).append(rule)
    return found


def parse_nft(content: str) -> Section:
    """Return `nft FAMILY TABLE CHAIN` -> rules; sets, maps and the like by name. Raises ValueError."""
    document = json.loads(content or "{}")
    objects = document.get("nftables", []) if isinstance(document, dict) else []
    found: Section = {}
    for wrapped in objects if isinstance(objects, list) else []:
        if not isinstance(wrapped, dict):
            continue
        for kind, value in wrapped.items():
            if kind in ("metainfo", "table") or not isinstance(value, dict):
                continue
            place = f"nft {value.get('family', '')} {value.get('table', '')}"
            if kind == "rule":
                rule = json.dumps(_stripped(value.get("expr", [])), sort_keys=True)
                found.setdefault(f"{place} {value.get('chain', '')}", []).append(rule)
            elif kind == "chain":
                hook, policy = value.get("hook"), value.get("policy", "accept")
                if hook is None or policy != "accept":
                    what = f"policy {policy} at {hook}" if hook else "chain"
                    found.setdefault(f"{place} {value.get('name', '')}", []).insert(0, what)
            else:
                found[f"{place} {kind} {value.get('name', '')}"] = [json.dumps(_stripped(value), sort_keys=True)]
    return found


def _stripped(value: Any) -> Any:
    """Remove handles, counters, and elements that the packet path adds (they have an expiry)."""
    if isinstance(value, dict):
        return {
            name: ({} if name == "counter" else _stripped(inner))
            for name, inner in value.items()
            if name not in ("handle", "expires", "packets", "bytes")
        }
    if isinstance(value, list):
        return [_stripped(inner) for inner in value]
    return value

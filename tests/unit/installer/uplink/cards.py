"""A fake host with one card, from a row of tests/tables/uplink/cards.yaml."""

from __future__ import annotations

import itertools
import json
from typing import Any

import yaml
from tests.fakes.host import FakeHost
from tests.places import TABLES

from nqrust.host.errors import CommandFailed

UUID = "the-active-profile"


def rows() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((TABLES / "uplink" / "cards.yaml").read_text())
    return found


def link(row: dict[str, Any]) -> dict[str, Any]:
    """What `ip -json -details address show` says of the card."""
    name = row["nic"]
    shown: dict[str, Any] = {"ifindex": 2, "ifname": name, "flags": ["UP", *row.get("flags", [])], "mtu": row.get("mtu", 1500)}
    shown["address"] = row.get("mac", "52:54:00:00:00:01")
    shown |= {"linkinfo": {"info_kind": row["kind"]}} if row.get("kind") else {}
    shown |= {"master": row["master"]} if row.get("master") else {}
    shown["addr_info"] = [_address(one) for one in row.get("addresses", [])]
    return shown


def _address(said: str) -> dict[str, Any]:
    cidr, *words = said.split()
    local, _, length = cidr.partition("/")
    one: dict[str, Any] = {"family": "inet6" if ":" in local else "inet", "local": local, "prefixlen": int(length)}
    one["scope"] = "link" if "link" in words else "global"
    one |= {"dynamic": True, "valid_life_time": 3000} if "dynamic" in words else {}
    one |= {"mngtmpaddr": True} if "ra" in words else {}
    one |= {"noprefixroute": True} if "noprefixroute" in words else {}
    one |= {"metric": int(words[words.index("metric") + 1])} if "metric" in words else {}
    one |= {"label": words[words.index("label") + 1]} if "label" in words else {}
    return one | ({"temporary": True} if "temporary" in words else {})


def route(said: str) -> dict[str, Any]:
    destination, *words = said.split()
    names = {"via": "gateway", "proto": "protocol", "src": "prefsrc", "scope": "scope", "table": "table", "metric": "metric",
             "expires": "expires"}  # fmt: skip
    one: dict[str, Any] = {"dst": destination, "flags": ["onlink"] if "onlink" in words else []}
    for word, value in itertools.pairwise(words):
        if word in names:
            one[names[word]] = int(value) if word in ("metric", "expires") else value
    return one


def host(row: dict[str, Any]) -> FakeHost:
    """The host on which the card is."""
    made, name = FakeHost.debian12(), row["nic"]
    if not row.get("missing"):
        made.put(f"/sys/class/net/{name}/ifindex", "2\n")
    if row.get("wireless"):
        made.put_directory(f"/sys/class/net/{name}/wireless")
    for path in (f"/proc/sys/net/ipv6/conf/{name}/accept_ra", f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6"):
        made.put(path, row.get("accept_ra", "1") + "\n" if path.endswith("ra") else "0\n")
    above = [{"ifname": row["master"], "linkinfo": {"info_kind": row.get("master_kind", "bridge")}}] if row.get("master") else []
    made.on("ip", "-json", "-details", "address", "show", answer=json.dumps([link(row), *above]))
    routes = [(route(said), ":" in said) for said in row.get("routes", [])]
    for family, ipv6 in (("-4", False), ("-6", True)):
        shown = [one for one, is_ipv6 in routes if is_ipv6 == ipv6]
        made.on("ip", "-json", family, "route", "show", "table", "all", "dev", name, answer=json.dumps(shown))
        rules = [_rule(said) for said in row.get("rules", [])] if family == "-4" else []
        made.on(
            "ip", "-json", family, "rule", "show", answer=json.dumps([{"priority": 0, "src": "all", "table": "local"}, *rules])
        )
    made.put("/etc/resolv.conf", "nameserver 192.0.2.53\n")
    for path, content in row.get("files", {}).items():
        made.put(path, content)
    if row.get("network_file"):
        made.put("/run/systemd/netif/state", "")
        made.put("/run/systemd/netif/links/2", f"ADMIN_STATE=configured\nNETWORK_FILE={row['network_file']}\nDNS=192.0.2.53\n")
        if row.get("lease"):
            made.put("/run/systemd/netif/leases/2", row["lease"])
    if row.get("ifstate"):
        made.put("/run/network/ifstate", row["ifstate"])
        made.on("ifup", "--version", answer=row.get("ifup", "ifup version 0.8.41\n"))
    if row.get("profile"):
        _nmcli(made, row)
    return made


def _rule(said: str) -> dict[str, Any]:
    words = said.split()
    named = dict(zip(words[::2], words[1::2], strict=True))
    return {"priority": int(named["priority"]), "src": named["from"], "table": named["table"]}


def _nmcli(made: FakeHost, row: dict[str, Any]) -> None:
    base = ("nmcli", "-t", "-e", "no", "-f")
    shown = f"GENERAL.STATE:{row.get('nm_state', '100 (connected)')}\nGENERAL.CON-UUID:{UUID}\n"
    made.on(*base, "GENERAL.STATE,GENERAL.CON-UUID", "device", "show", row["nic"], answer=shown)
    made.on(*base, "UUID,FILENAME", "connection", "show", answer=f"other:/etc/x\n{UUID}:{row['profile']}\n")
    made.on(*base, "TYPE,STATE,DEVICE", "device", answer=row.get("devices", f"ethernet:connected:{row['nic']}\n"))
    for family in ("DHCP4", "DHCP6"):
        failed = CommandFailed(base, 10, "no lease", "")
        made.on(*base, family, "device", "show", row["nic"], answer=row.get(family.lower(), failed))

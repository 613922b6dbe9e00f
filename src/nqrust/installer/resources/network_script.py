"""The script that nqrust-network.service runs at boot: it restores the installer's bridge, address and rules."""

from __future__ import annotations

from nqrust.contract.names import LAN_TABLE, bridge_mac
from nqrust.installer.settings.model import NetworkMode, NetworkSettings
from nqrust.installer.verbs.firewall.rules import FirewallSpec
from nqrust.installer.verbs.firewall.script import FUNCTIONS, render_check, render_down, render_rules, render_up
from nqrust.installer.verbs.network.link import ALIAS


def network_script(network: NetworkSettings, *firewall: FirewallSpec) -> str:
    """POSIX sh with three verbs. `up` may run any number of times; `down` takes out what `up` put in; `check` exits with 1
    where a rule is missing, for the agent, which then runs `up`."""
    bridge, address = network.bridge_name, f"{network.gateway}/{network.prefix_length}"
    mac = bridge_mac(bridge)
    off = f"/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6"
    arp = f"/proc/sys/net/ipv4/conf/{bridge}/arp_filter"
    up = [
        f"[ -e /sys/class/net/{bridge} ] ||",
        f"    printf 'link add name {bridge} address {mac} type bridge\\nlink set dev {bridge} alias {ALIAS}\\n' | ip -batch -",
        "if ours; then",
        f"    ip link set dev {bridge} address {mac}",
        f"    ip address replace {address} brd + dev {bridge}",
        f"    ip link set dev {bridge} up",
        "fi",
        f"[ ! -e {off} ] || echo 1 >{off}",
        f"[ ! -e {arp} ] || echo 1 >{arp}",
    ]
    if network.mode is NetworkMode.nat:
        up.insert(0, '[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || echo 1 >/proc/sys/net/ipv4/ip_forward')
    check = [
        f'[ ! -e {off} ] || [ "$(cat {off})" = 1 ] || return 1',
        f'[ ! -e {arp} ] || [ "$(cat {arp})" = 1 ] || return 1',
        f'! ours || [ "$(cat /sys/class/net/{bridge}/address)" = {mac} ] || return 1',
    ]
    rules_up, rules_check, down = _rules(firewall)
    up += rules_up
    check += rules_check
    down.append(f"nft delete table {' '.join(LAN_TABLE)} 2>/dev/null || :")
    down.append(f"if ours; then ip link delete {bridge}; fi")
    ours = [
        "# A bridge that was there before nqr is used as it is.",
        "ours() {",
        f'    [ "$(cat /sys/class/net/{bridge}/ifalias 2>/dev/null)" = {ALIAS} ]',
        "}",
        "",
    ]
    return _script(ours, firewall, up, check, down)


def lan_script(network: NetworkSettings, *firewall: FirewallSpec) -> str:
    """The same for the bridge of a LAN, which is not ours: the rules for VMs, and the table that the agent fills."""
    rules_up, rules_check, rules_down = _rules(firewall)
    table = " ".join(LAN_TABLE)
    return _script(
        [],
        firewall,
        [*rules_up, f"nft add table {table}"],
        [*rules_check, f"nft list table {table} >/dev/null 2>&1 || return 1"],
        [*rules_down, f"nft delete table {table} 2>/dev/null || :"],
    )


def _rules(firewall: tuple[FirewallSpec, ...]) -> tuple[list[str], list[str], list[str]]:
    up, check, down = list[str](), list[str](), list[str]()
    for spec in firewall:
        for lines, rendered in ((up, render_up(spec)), (check, render_check(spec)), (down, render_down(spec))):
            lines += ["if ipv6; then", *_indented(rendered), "fi"] if spec.ipv6 else rendered
    return up, check, down


def _script(first: list[str], firewall: tuple[FirewallSpec, ...], up: list[str], check: list[str], down: list[str]) -> str:
    lines = [
        "#!/bin/sh",
        "# Written by nqr: the network of the VMs, as `nqr install` made it. Run by nqrust-network.service at boot.",
        "set -eu",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "",
        *first,
        *(line for spec in firewall for line in render_rules(spec)),
        *FUNCTIONS.strip().splitlines(),
        "",
        *_function("up", ["alone", *up]),
        *_function("check", check),
        *_function("down", ["alone", *down]),
        "case ${1:-} in",
        "    up) up ;;",
        "    check) check ;;",
        "    down) down ;;",
        '    *) echo "usage: $0 up|check|down" >&2; exit 2 ;;',
        "esac",
        "",
    ]
    return "\n".join(lines)


def _function(name: str, body: list[str]) -> list[str]:
    return [f"{name}() {{", *body, "}", ""]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]

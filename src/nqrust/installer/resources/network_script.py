"""The script that nqrust-network.service runs at boot: it restores the installer's bridge, address and rules."""

from __future__ import annotations

from nqrust.contract.names import bridge_mac
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
    down = []
    for spec in firewall:
        if spec.ipv6:
            up += ["if ipv6; then", *_indented(render_up(spec)), "fi"]
            check += ["if ipv6; then", *_indented(render_check(spec)), "fi"]
            down += ["if ipv6; then", *_indented(render_down(spec)), "fi"]
        else:
            up += render_up(spec)
            check += render_check(spec)
            down += render_down(spec)
    down.append(f"if ours; then ip link delete {bridge}; fi")
    lines = [
        "#!/bin/sh",
        "# Written by nqr: the network of the VMs, as `nqr install` made it. Run by nqrust-network.service at boot.",
        "set -eu",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "",
        "# A bridge that was there before nqr is used as it is.",
        "ours() {",
        f'    [ "$(cat /sys/class/net/{bridge}/ifalias 2>/dev/null)" = {ALIAS} ]',
        "}",
        "",
        *(line for spec in firewall for line in render_rules(spec)),
        *FUNCTIONS.strip().splitlines(),
        "",
        *_function("up", up),
        *_function("check", check),
        *_function("down", down),
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

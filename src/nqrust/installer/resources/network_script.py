"""The script that nqrust-network.service runs at boot: bridge, address and rules, as the installer made them."""

from __future__ import annotations

from nqrust.installer.settings.model import NetworkMode, NetworkSettings
from nqrust.installer.verbs.firewall.rules import FirewallSpec, render_down, render_up
from nqrust.installer.verbs.network.link import ALIAS


def network_script(network: NetworkSettings, spec: FirewallSpec) -> str:
    """POSIX sh with two verbs. `up` may run any number of times; `down` takes out what `up` put in."""
    bridge, address = network.bridge_name, f"{network.gateway}/{network.prefix_length}"
    up = [
        f"[ -e /sys/class/net/{bridge} ] ||",
        f"    printf 'link add name {bridge} type bridge\\nlink set dev {bridge} alias {ALIAS}\\n' | ip -batch -",
        "if ours; then",
        f"    ip address replace {address} brd + dev {bridge}",
        f"    ip link set dev {bridge} up",
        "fi",
        f"[ ! -e /proc/sys/net/ipv6/conf/{bridge}/disable_ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6",
    ]
    if network.mode is NetworkMode.nat:
        up.insert(0, '[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || echo 1 >/proc/sys/net/ipv4/ip_forward')
    down = [*render_down(spec), f"if ours; then ip link delete {bridge}; fi"]
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
        "up() {",
        *up,
        *render_up(spec),
        "}",
        "",
        "down() {",
        *down,
        "}",
        "",
        "case ${1:-} in",
        "    up) up ;;",
        "    down) down ;;",
        '    *) echo "usage: $0 up|down" >&2; exit 2 ;;',
        "esac",
        "",
    ]
    return "\n".join(lines)

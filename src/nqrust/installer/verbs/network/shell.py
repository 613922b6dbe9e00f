"""The functions of an undo script for links."""

from __future__ import annotations

FUNCTIONS = r"""remove_net_link() {
    [ -e "/sys/class/net/$1" ] || return 0
    if has ip; then try ip link delete "$1" || missed=1; else kept "$1 goes at the next boot: the program ip is gone"; fi
}
"""

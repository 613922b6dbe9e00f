"""The functions of an undo script for sysctls and modules."""

from __future__ import annotations

FUNCTIONS = r"""restore_sysctl() { # file, prior, ours
    [ -e "$1" ] || return 0
    now=$(cat "$1")
    [ "$now" = "$2" ] && return
    if [ "$now" = "$3" ]; then printf '%s\n' "$2" >"$1" || try false "$1"; else kept "$1 is $now, which is neither what we set nor what it was"; fi
}
remove_module() { if [ -e "/sys/module/$1" ]; then modprobe --remove "$1" 2>/dev/null || kept "module $1 is in use; it goes at the next boot"; fi; }
"""

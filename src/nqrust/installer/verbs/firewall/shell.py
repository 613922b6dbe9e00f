"""The functions of an undo script for firewall rules."""

from __future__ import annotations

FUNCTIONS = r"""remove_rule() { # program, table, chain, specification
    program=$1 table=$2
    shift 2
    has "$program" || return 0
    while "$program" -w -t "$table" -C "$@" 2>/dev/null; do try "$program" -w -t "$table" -D "$@" || { missed=1; return; }; done
}
remove_chain() { # program, table, chain
    has "$1" && "$1" -w -t "$2" -S "$3" >/dev/null 2>&1 || return 0
    try "$1" -w -t "$2" -F "$3" || missed=1
    try "$1" -w -t "$2" -X "$3" || missed=1
}
"""

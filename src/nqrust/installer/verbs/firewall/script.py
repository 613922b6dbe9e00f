"""The rules as functions of a POSIX shell script: put in place, looked at, taken out."""

from __future__ import annotations

import shlex

from nqrust.contract.names import ROUTED_CHAIN
from nqrust.installer.verbs.firewall.kernel import BOUNDS
from nqrust.installer.verbs.firewall.rules import ALONE, Chain, FirewallSpec, restore_text

FUNCTIONS = rf"""
# A kernel without the matches that bound what one guest takes gets the rules without them.
unbounded() {{
    grep -v {" ".join(f"-e '-m {match} '" for match in BOUNDS)}
}}

lacking() {{
    for match in {" ".join(BOUNDS)}; do
        grep -qx "$match" /proc/net/ip_tables_matches 2>/dev/null || return 0
    done
    return 1
}}

fill() {{ # program, table
    "rules_$1_$2" | "$1-restore" -w --noflush 2>/dev/null || "rules_$1_$2" | unbounded | "$1-restore" -w --noflush
}}

jump() {{ # program, table, chain, parent
    "$1" -w -t "$2" -C "$4" -m comment --comment nqrust -j "$3" 2>/dev/null ||
        "$1" -w -t "$2" -I "$4" 1 -m comment --comment nqrust -j "$3"
}}

# After the rules of others, so that what they accept passes.
last() {{ # program, table, chain, parent
    now=$("$1" -w -t "$2" -S "$4" 2>/dev/null) one="-A $4 -m comment --comment nqrust -j $3"
    [ "$(printf '%s\n' "$now" | tail -n 1)" = "$one" ] && [ "$(printf '%s\n' "$now" | grep -cxFe "$one")" = 1 ]
}}

jump_last() {{ # program, table, chain, parent
    ! last "$@" || return 0
    while "$1" -w -t "$2" -D "$4" -m comment --comment nqrust -j "$3" 2>/dev/null; do :; done
    "$1" -w -t "$2" -A "$4" -m comment --comment nqrust -j "$3"
}}

holds() {{ # program, table, chain, parent
    now=$("$1" -w -t "$2" -S "$3" 2>/dev/null | grep '^-A ') || :
    all=$("rules_$1_$2" | grep "^-A $3 ")
    [ "$now" = "$all" ] || {{ lacking && [ "$now" = "$(printf '%s\n' "$all" | unbounded)" ]; }} || return 1
    "$1" -w -t "$2" -C "$4" -m comment --comment nqrust -j "$3" 2>/dev/null
}}

drop() {{ # program, table, chain, parent
    while "$1" -w -t "$2" -D "$4" -m comment --comment nqrust -j "$3" 2>/dev/null; do :; done
    "$1" -w -t "$2" -F "$3" 2>/dev/null || :
    "$1" -w -t "$2" -X "$3" 2>/dev/null || :
}}

# nqr sets these rules too, and looks for a jump before it adds one: not both at once.
alone() {{
    exec 9<"$0"
    flock -w {ALONE} 9 2>/dev/null || :
}}

# Where IPv6 is off or cannot be filtered there is nothing to set.
ipv6() {{
    [ -e /proc/net/if_inet6 ] && ip6tables -w -t filter -S >/dev/null 2>&1
}}
"""


def render_rules(spec: FirewallSpec) -> list[str]:
    """A function `rules_PROGRAM_TABLE` for each table, which `fill` and `holds` call."""
    lines = []
    for table in spec.tables:
        text = restore_text(spec, table).splitlines()
        lines += [f"rules_{spec.program}_{table}() {{", "    cat <<'RULES'", *text, "RULES", "}", ""]
    return lines


def render_up(spec: FirewallSpec) -> list[str]:
    """Shell lines that put the rules in place; run twice they change nothing."""
    stays = spec.ipv6 or any(chain.name == ROUTED_CHAIN for chain in spec.chains)
    return [
        # Programs that restore saved rules at boot bring it back.
        *([] if stays else [f"drop {spec.program} filter {ROUTED_CHAIN} FORWARD"]),
        *(shlex.join(("fill", spec.program, table)) for table in spec.tables),
        *(f"jump{'_last' * chain.last} {_words(spec, chain)}" for chain in spec.chains),
    ]


def render_check(spec: FirewallSpec) -> list[str]:
    """Shell lines that return 1 from a function where a rule is missing or changed."""
    held = [f"holds {_words(spec, chain)} || return 1" for chain in spec.chains]
    return [*held, *(f"last {_words(spec, chain)} || return 1" for chain in spec.chains if chain.last)]


def render_down(spec: FirewallSpec) -> list[str]:
    """Shell lines that take the rules out again; fine when they are not there."""
    chains = reversed((*spec.chains, *spec.others))
    return [f"drop {_words(spec, chain)}" for chain in chains]


def _words(spec: FirewallSpec, chain: Chain) -> str:
    return f"{spec.program} {chain.table} {chain.name} {chain.parent}"

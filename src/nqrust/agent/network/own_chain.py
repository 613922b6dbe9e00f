"""One chain of the agent's own, with one jump into it from a built-in chain. iptables(8)."""

from __future__ import annotations

from nqrust.agent.network.forwards import parse_rules, restore_text
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command

Rule = tuple[str, ...]


def netfilter(host: Host, bridge: str, program: str) -> bool:
    """Return whether the frames of `bridge` pass the rules of `program`, iptables or ip6tables: br_netfilter is there, for all
    bridges or for this one."""
    for path in (f"/proc/sys/net/bridge/bridge-nf-call-{program}", f"/sys/class/net/{bridge}/bridge/nf_call_{program}"):
        try:
            if host.read_text(path).strip() == "1" and host.exists("/proc/sys/net/bridge"):
                return True
        except HostError:
            continue
    return False


def draw(host: Host, program: str, place: tuple[str, str, str], wanted: list[Rule]) -> bool:
    """Give the chain these rules, in the form of `iptables -S`; without rules it goes. `place`: table, chain and the built-in
    chain that jumps there. Return whether anything changed. Raises CommandFailed."""
    table, chain, parent = place
    jump = ("-m", "comment", "--comment", "nqrust", "-j", chain)
    base = (program, "-w", "-t", table)
    now = parse_rules(host.run(command(*base, "-S")).stdout)
    jumps = now.get(parent, []).count(jump)
    if not wanted:
        if chain not in now:
            return False
        for _ in range(jumps):
            host.run(command(*base, "-D", parent, *jump))
        host.run(command(*base, "-F", chain))
        host.run(command(*base, "-X", chain))
        return True
    if now.get(chain) == wanted and jumps:
        return False
    text = restore_text(table, {chain: wanted}, () if jumps else (("-I", parent, "1", *jump),))
    host.run(command(f"{program}-restore", "-w", "--noflush", input=text.encode()))
    return True

"""Undo of firewall rules and chains."""

from __future__ import annotations

from typing import Any

from nqrust.contract.names import ROUTED_CHAIN
from nqrust.host.port import Host, command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext

_ABSENT = (0, 1, 2, 3)
"""iptables(8): not there, or 3: not even the table."""

PROGRAM, ZONE = "firewall-cmd", "nqrust-vms"
"""firewalld's program, and nqr's zone in it. A zone's name has at most 17 characters."""
_ANY = tuple(range(256))


def goes_last(chain: str) -> bool:
    """Return whether the jump to a chain comes after the rules of others, so what they accept passes."""
    return chain == ROUTED_CHAIN


def place(parent: str, chain: str) -> tuple[str, ...]:
    """Return the arguments of iptables(8) that put a jump to `chain` at its place in `parent`."""
    return ("-A", parent) if goes_last(chain) else ("-I", parent, "1")


def undo_ruleset(binary: str, *, prior: dict[str, str], jumps: list[list[str]], added: list[list[str]]) -> Undo:
    """Restore the previous rules of nqr's chains: `prior` as table -> input of iptables-restore(8), `jumps` as [table, chain,
    *spec]. Remove `added` chains, as [table, parent, chain, *jump]."""
    return Undo("ruleset", {"binary": binary, "prior": prior, "jumps": jumps, "added": added})


def undo_rules(binary: str, rules: list[list[str]], chains: list[list[str]]) -> Undo:
    """Delete nqr's firewall rules and chains: `rules` as [table, chain, *spec], `chains` as [table, chain]."""
    return Undo("rules", {"binary": binary, "rules": rules, "chains": chains})


def undo_bridge_table(name: str) -> Undo:
    """Delete nqr's nftables table of the bridge family, with all that the agent put in."""
    return Undo("bridge-table", {"name": name})


def bridge_table(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Delete the table. Other tables stay."""
    host, name = context.host, str(args["name"])
    if host.which("nft") is None:
        return Kept(f"the nftables table bridge {name} goes at the next boot: the program nft is gone")
    if host.run(command("nft", "list", "table", "bridge", name, ok=(0, 1))).code != 0:
        return Reverted("already gone")
    host.run(command("nft", "delete", "table", "bridge", name))
    return Reverted()


def rules(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Delete nqr's rules (every copy of each), then its chains. Never flushes other rules."""
    host, binary = context.host, str(args["binary"])
    if host.which(binary) is None:
        return Reverted(f"{binary} is gone, and with it what it set")
    for table, chain, *spec in args["rules"]:
        while host.run(command(binary, "-w", "-t", table, "-C", chain, *spec, ok=_ABSENT)).code == 0:
            host.run(command(binary, "-w", "-t", table, "-D", chain, *spec))
    for table, chain in args["chains"]:
        if host.run(command(binary, "-w", "-t", table, "-S", chain, ok=_ABSENT)).code == 0:
            host.run(command(binary, "-w", "-t", table, "-F", chain))
            host.run(command(binary, "-w", "-t", table, "-X", chain))
    return Reverted()


def ruleset(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Restore the previous rules of nqr's chains, and remove chains that the change added."""
    host, binary = context.host, str(args["binary"])
    if host.which(binary) is None:
        return Reverted(f"{binary} is gone, and with it what it set")
    for text in args["prior"].values():
        host.run(command(f"{binary}-restore", "-w", "--noflush", input=str(text).encode()))
    for table, chain, *spec in args["jumps"]:
        if host.run(command(binary, "-w", "-t", table, "-C", chain, *spec, ok=(0, 1, 2))).code != 0:
            host.run(command(binary, "-w", "-t", table, *place(chain, spec[-1]), *spec))
    added = args["added"]
    rules_ = [[table, parent, *jump] for table, parent, _, *jump in added]
    return rules(context, {"binary": binary, "rules": rules_, "chains": [[table, chain] for table, _, chain, *_ in added]})


# --- firewalld


def undo_zone(bridge: str) -> Undo:
    """Make firewalld forget nqr's zone, after the zone's files have gone."""
    return Undo("firewalld", {"bridge": bridge})


def zone(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Reload firewalld. If that would drop settings of others, take only the bridge out of the zone, which then stays empty."""
    host = context.host
    if not is_running(host):
        return Reverted("firewalld is not running")
    if only_at_run_time(host):
        host.run(command(PROGRAM, f"--zone={ZONE}", f"--remove-interface={args['bridge']}", ok=_ANY, timeout=60))
        return Kept(f"firewalld has the zone {ZONE}, without an interface, until its next reload, which would drop settings now")
    host.run(command(PROGRAM, "--reload", timeout=60))
    return Reverted()


def is_running(host: Host) -> bool:
    return host.which(PROGRAM) is not None and host.run(command(PROGRAM, "--state", ok=_ANY, timeout=60)).code == 0


def only_at_run_time(host: Host) -> list[str]:
    """Return what firewalld has at run time and not in its files, or the other way round; a reload would change it. Zones keep
    their interfaces in a reload. Ignores nqr's zone and policy."""
    found = []
    for what in ("--list-all-zones", "--list-all-policies"):
        now, saved = (_blocks(_asked(host, *options, what)) for options in ((), ("--permanent",)))
        names = [name for name in {**now, **saved} if not name.startswith(ZONE) and now.get(name) != saved.get(name)]
        found += [f"{'zone' if 'zones' in what else 'policy'} {name}" for name in names]
    for what in ("--get-all-chains", "--get-all-rules", "--get-all-passthroughs"):
        if _asked(host, "--direct", what) != _asked(host, "--permanent", "--direct", what):
            found.append("direct rules")
            break
    sets = _asked(host, "--get-ipsets").split()
    if sets != _asked(host, "--permanent", "--get-ipsets").split():
        found.append("IP sets")
    for name in sets:
        asked = f"--info-ipset={name}"
        if _blocks(_asked(host, asked)) != _blocks(_asked(host, "--permanent", asked)):
            found.append(f"IP set {name}")
    return found


def _asked(host: Host, *arguments: str) -> str:
    """Return the answer of firewall-cmd(1); of an older one that does not know the question, nothing."""
    answer = host.run(command(PROGRAM, *arguments, ok=_ANY, timeout=60))
    return answer.stdout if answer.code == 0 else ""


def _blocks(text: str) -> dict[str, list[str]]:
    """Return name -> lines of a listing. Which interfaces a zone has is no setting that a reload drops."""
    found: dict[str, list[str]] = {}
    for block in text.split("\n\n"):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if lines:
            name = lines[0].split(" (")[0]
            found[name] = [line for line in lines[1:] if not line.startswith("interfaces:")]
    return found

"""The verb for packages: it removes new packages.

The undo determines the packages (installed now, added by nqr, absent before), so dependencies of every depth are included.
Packages that something else needs now stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nqrust.host.port import Host, command
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext
from nqrust.installer.verbs.account.undo import remove_user
from nqrust.installer.verbs.packages import data, spared, traces, units
from nqrust.installer.verbs.packages.registry import closed, of_record
from nqrust.installer.verbs.packages.remover import Remover

_BELOW_ROOTS = tuple(f"{root}/" for root in traces.ROOTS)


def undo_packages(manager: str, before: list[str], marks: list[str], config_only: list[str]) -> Undo:
    """Remove installed packages that were not in `before` (names with architecture), and leftovers (users, groups, folders).
    Packages in `config_only` keep their older configuration. `marks`: packages that a person asked for. Version 0.2.0 gave older
    packages these marks again, and with them took back what the administrator had marked since. nqr changes none of them."""
    args = {"manager": manager, "before": before, "manual": marks, "config_only": config_only}
    return Undo("packages", args, Retain.packages)


def packages(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Purge this transaction's packages and their scripts' files. Packages that something else needs now stay."""
    host, remover = context.host, of_record(args).removing
    plain = remover.plain(host)
    # First, so that the look below includes everything that an interrupted transaction's scripts still create.
    remover.mend(host, victims(host, args, frozenset())[0])
    going, for_data = victims(host, args, context.needed_packages)
    going -= {plain(name) for name in brought_by(context.older)}
    servers = servers_of(context, args, going)
    theirs = data.of_others(host, servers.values())
    if theirs:
        for_data |= _with_needs({*servers}, remover.needs(host), going)
        going -= for_data
    kept = _staying(host, remover, going, remover.would_go)
    going -= kept
    made = _made(context, args)
    spare = _spared(context, args, going)
    if going:
        configured = going & configured_before(host, args)
        failed = units.patterns(remover.listed(host, going))
        remover.purge(host, going - configured, configured)
        units.forget(host, failed)
    spared.put_back(host, spare)
    left = traces.remove(host, leftovers(context, args), frozenset())
    before = {plain(name) for name in args["before"]}
    if theirs:
        return Partly(theirs)
    if for_data:
        return Partly(f"packages stay for the data that stays: {_some(for_data)}")
    if kept:
        return Kept(f"packages that others need now stay: {_some(kept)}")
    now = remover.installed(host)
    later = remover.scripts(host, now - before)
    left += traces.remove(host, made, remover.listed(host, now), later)
    _residue(host, args.get("residue"), later)
    if left:
        return Kept("; ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else ""))
    return Reverted(f"{len(going)} packages removed" if going else "none to remove")


def victims(host: Host, args: dict[str, Any], needed: frozenset[str]) -> tuple[set[str], set[str]]:
    """Return this transaction's remaining packages: (those to remove, those that stay because they contain or depend on
    `needed` packages). `brought` limits them to nqr's; without it, all newer packages count."""
    remover = of_record(args).removing
    plain = remover.plain(host)
    now = remover.installed(host)
    new = now - {plain(name) for name in args["before"]}
    new |= (configured_before(host, args) & now) - remover.config_only(host)
    if args.get("brought") is not None:
        new &= {plain(name) for name in args["brought"]}
    for_data = _with_needs(new & needed, remover.needs(host), new) if needed else set()
    return new - for_data, for_data


def servers_of(context: UndoContext, args: dict[str, Any], going: set[str]) -> dict[str, str]:
    """Return PostgreSQL servers in `going` -> pattern of the data folders that go with them or are useless without them."""
    before = set(_survey(context.originals, args)["paths"]) if "survey" in args else set()
    return of_record(args).removing.clusters(going, before)


def needed_by_others(host: Host, args: dict[str, Any], going: set[str], gone: frozenset[str]) -> set[str]:
    """Return packages of `going` that something else needs once `gone` are removed. Reads only. Raises HostError if an
    interrupted transaction blocks the query."""
    remover = of_record(args).removing
    ask = remover.foresee or remover.would_go
    return _staying(host, remover, set(going), lambda host, names: ask(host, [*names, *sorted(gone)]) - gone)


def _staying(host: Host, remover: Remover, going: set[str], ask: Callable[[Host, list[str]], set[str]]) -> set[str]:
    kept: set[str] = set()
    while going:
        foreign = ask(host, sorted(going)) - going
        if not foreign:
            break
        stay = _with_needs(foreign, remover.needs(host), going) & going or set(going)  # when unsure, keep all
        kept |= stay
        going = going - stay
    return kept


def brought_by(undos: Iterable[Undo]) -> frozenset[str]:
    """Return packages that these records list, named as in the records."""
    return frozenset(name for undo in undos if undo.verb == "packages" for name in undo.args.get("brought") or ())


def configured_before(host: Host, args: dict[str, Any]) -> set[str]:
    """Return packages of which only the configuration existed before (older records lack them)."""
    plain = of_record(args).removing.plain(host)
    return {plain(name) for name in args.get("config_only", [])}


def survey_made(host: Host, args: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return this transaction's current additions besides its packages. Call it while its packages are installed."""
    remover = of_record(args).removing
    brought, _ = victims(host, args, frozenset())
    return traces.made(host, before, remover.scripts(host, brought), remover.listed(host, brought), closed())


def known_traces(originals: Originals, args: dict[str, Any]) -> dict[str, Any] | None:
    """Return the recorded additions: empty for a record of a version without this search, None for an interrupted transaction."""
    if "survey" not in args:
        return traces.NOTHING
    return traces.unpack(originals.read(str(args["made"]))) if "made" in args else None


def _survey(originals: Originals, args: dict[str, Any]) -> dict[str, Any]:
    """Return the result of `traces.survey` from before this transaction."""
    return traces.unpack(originals.read(str(args["survey"])))


def _made(context: UndoContext, args: dict[str, Any]) -> dict[str, Any]:
    """Return the recorded additions. For an interrupted transaction, find and keep them for the next attempt."""
    originals = context.originals
    found = known_traces(originals, args)
    if found is not None:
        return found
    late = originals.blob(f"{args['survey']}.made")
    if not context.host.exists(late):
        context.host.write_file(late, traces.pack(made_now(context, args)), mode=0o600)
    return traces.unpack(context.host.read_bytes(late))


def made_now(context: UndoContext, args: dict[str, Any]) -> dict[str, Any]:
    """Return an interrupted transaction's additions so far. Changes nothing."""
    return survey_made(context.host, args, _survey(context.originals, args))


def still_to_be_made(context: UndoContext, args: dict[str, Any]) -> list[str]:
    """Return paths that an interrupted transaction's scripts name and that never existed. Its completion may create them."""
    remover = of_record(args).removing
    brought, _ = victims(context.host, args, frozenset())
    before = set(_survey(context.originals, args)["paths"])
    paths = sorted(traces.named(remover.scripts(context.host, brought)) - before)
    return [path for path in paths if path.startswith(_BELOW_ROOTS) and context.host.stat(path) is None]


def spared_now(context: UndoContext, args: dict[str, Any], going: set[str]) -> dict[str, Any]:
    """Return older files that the purge of `going` may remove."""
    if "survey" not in args:
        return {}
    host, remover = context.host, of_record(args).removing
    before = _survey(context.originals, args)
    return spared.look(host, before, remover.scripts(host, going), remover.listed(host, going), remover.asides)


def leftovers(context: UndoContext, args: dict[str, Any]) -> dict[str, Any]:
    """Return unpacked files of packages that an interrupted transaction did not install."""
    if args.get("brought") is None or known_traces(context.originals, args) is not None:
        return traces.NOTHING
    host, remover = context.host, of_record(args).removing
    found = remover.leftovers(host, {*args["brought"]} - remover.installed(host))
    there = set(_survey(context.originals, args)["paths"])
    return {**found, "paths": {path: row for path, row in found["paths"].items() if path not in there}}


def _spared(context: UndoContext, args: dict[str, Any], going: set[str]) -> dict[str, Any]:
    """Return the same, with an interrupted attempt's findings. Stores it before any removal."""
    if "survey" not in args:
        return {}
    file = context.originals.blob(f"{args['survey']}.spared")
    known = traces.unpack(context.host.read_bytes(file)) if context.host.exists(file) else {}
    found = {**known, **spared_now(context, args, going)}
    if found != known:
        context.host.write_file(file, traces.pack(found), mode=0o600)
    return found


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")


def _with_needs(start: set[str], needs: dict[str, set[str]], among: set[str]) -> set[str]:
    """Return `start` and everything in `among` that it needs, at any depth."""
    found, todo = set(start), list(start)
    while todo:
        for name in needs.get(todo.pop(), set()):
            if name in among and name not in found:
                found.add(name)
                todo.append(name)
    return found


def _residue(host: Host, residue: dict[str, Any] | None, later: str) -> None:
    """Remove recorded users and groups, unless a later package's scripts use them too."""
    for name in (residue or {}).get("users", []):
        if host.user(name) is not None and name not in later:
            remove_user(host, name)
    for name in (residue or {}).get("groups", []):
        if host.group(name) is not None and name not in later:
            host.run(command("groupdel", name, ok=(0, 6, 8)))


def capture(originals: Originals, args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with `survey`: package scripts are about to run."""
    return args if "survey" in args else {**args, "survey": originals.store(traces.pack(traces.survey(originals.host, closed())))}


def conclude(originals: Originals, args: dict[str, Any]) -> str:
    """Return the digest of the package scripts' additions."""
    if "survey" not in args or "made" in args:
        return ""
    return originals.store(traces.pack(survey_made(originals.host, args, _survey(originals, args))))

"""What reverting an entry would do, for people: one sentence a record. Reads only, and decides as the verbs do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nqrust.host.errors import HostError
from nqrust.installer.engine import wording
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.together import with_older
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.file import undo as files
from nqrust.installer.verbs.packages import undo as packages
from nqrust.installer.verbs.service import undo as services


@dataclass(frozen=True)
class Forecast:
    """`lines`: what is done. `stays`: what is left on purpose and then forgotten; `waits`: what stays recorded, and is
    reverted when what needs it goes. `packages`: those that are removed."""

    lines: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    packages: frozenset[str] = frozenset()


def forecast(context: UndoContext, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Forecast]]:
    """Of all records of each entry, newest first. What cannot be told is said so; never raises HostError or NqrError."""
    gone: frozenset[str] = frozenset()
    newest_first = sorted(entries, key=lambda e: e.seq, reverse=True)
    for entry in newest_first:
        now = with_older(context, entry, newest_first)
        told = [undo for undo in reversed(entry.undo) if not services.needs_settling(undo) or entry.restarts(undo)]
        found = [_of(now, undo.verb, {**undo.args, "gone": gone}) for undo in told]
        gone = gone.union(*(one.packages for one in found))
        yield entry, Forecast(_all(found, "lines"), _all(found, "stays"), _all(found, "waits"))


def _all(found: list[Forecast], name: str) -> tuple[str, ...]:
    return tuple(text for one in found for text in getattr(one, name))


def _of(context: UndoContext, verb: str, args: dict[str, Any]) -> Forecast:
    teller = TELLERS.get(verb)
    try:
        told = teller(context, args) if teller else wording.of(verb, args)
    except (HostError, NqrError) as error:
        told = f"cannot be foreseen: {error}"
    return told if isinstance(told, Forecast) else Forecast((told,))


def _file(context: UndoContext, args: dict[str, Any]) -> Forecast:
    host, path, prior = context.host, str(args["path"]), args.get("prior")
    if files.is_prior(host, path, prior):
        return Forecast((f"{path} is as it was",))
    back = f"put back {path} as it was" if prior is not None else f"remove {path}"
    if host.stat(path) is not None and not files.is_ours(host, path, args.get("ours")):
        stays = (f"{path} was changed since; your version is kept beside it ({files.KEPT_SUFFIX})",)
        return Forecast((back,) if prior is not None else (), stays)
    return Forecast((back,))


def _symlink(context: UndoContext, args: dict[str, Any]) -> Forecast:
    host, path, prior = context.host, str(args["path"]), args.get("prior")
    if host.stat(path) is not None and not files.is_our_link(host, path, args):
        return Forecast(stays=(f"{path} was changed since",))
    return Forecast((f"point {path} back to {prior}" if prior is not None else f"remove {path}",))


def _packages(context: UndoContext, args: dict[str, Any]) -> Forecast:
    going, for_data = packages.victims(context.host, args, context.needed_packages)
    plain = packages.REMOVERS[str(args["manager"])].plain(context.host)
    going -= args["gone"].union(map(plain, context.with_older))
    others = packages.needed_by_others(context.host, args, going, args["gone"])
    going -= others
    return Forecast(
        (f"remove {len(going)} packages: {', '.join(sorted(going))}",) if going else (),
        (f"packages that others need now stay: {', '.join(sorted(others))}",) if others else (),
        (f"packages stay for the data that stays: {', '.join(sorted(for_data))}",) if for_data else (),
        frozenset(going),
    )


def _vms(context: UndoContext, args: dict[str, Any]) -> str:
    running = services.scopes(context.host, str(args["prefix"]))
    return f"end the VMs that run: {', '.join(running)}" if running else "end the VMs that run: none now"


Teller = Callable[[UndoContext, dict[str, Any]], "Forecast | str"]
TELLERS: dict[str, Teller] = {"file": _file, "symlink": _symlink, "packages": _packages, "vms": _vms}
"""Verbs of which only a look at the host tells what they will do; wording.py has the words of the others."""

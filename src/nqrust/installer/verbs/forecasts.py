"""What reverting a record would do, where only a look at the host tells. Reads only, and decides as the verbs do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nqrust.installer.engine.verb import Forecast, UndoContext
from nqrust.installer.verbs.file import undo as files
from nqrust.installer.verbs.packages import undo as packages
from nqrust.installer.verbs.packages.registry import REMOVERS
from nqrust.installer.verbs.service import undo as services


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
    plain = REMOVERS[str(args["manager"])].plain(context.host)
    going -= args["gone"].union(map(plain, packages.brought_by(context.older)))
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


Teller = Callable[[UndoContext, dict[str, Any]], Forecast | str]
TELLERS: dict[str, Teller] = {"file": _file, "symlink": _symlink, "packages": _packages, "vms": _vms}
"""Verbs of which only a look at the host tells what they will do; words.py has the words of the others."""

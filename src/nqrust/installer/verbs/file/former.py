"""The tree of the release before, such as nqr's own environment. It waits beside its place, and a rollback puts it back.

One that is not the newest goes after the next upgrade, so that at most one waits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Forecast, Kept, Outcome, Reverted, UndoContext

NAME = "former"
_GUARDED = (0, 3)
"""The first version whose rollback leaves what users have."""


def undo_former(path: str, version: str, *, marker: str, needs: str = "") -> Undo:
    """Put the tree of `version` back from beside `path`. `marker`: a JSON file in the tree that names its version. `needs`: a
    file without which the tree is of no use."""
    return Undo(NAME, {"path": path, "beside": beside(path, version), "version": version, "marker": marker, "needs": needs})


def beside(path: str, version: str) -> str:
    return f"{path}-{version}"


def set_beside(host: Host, path: str, version: str) -> None:
    """Make room at `path`. The tree there is of `version`."""
    host.remove_tree(beside(path, version))
    host.rename(path, beside(path, version))


def former(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Put it back. An older record that removes `path` makes that needless, as at an uninstall."""
    host, path, waits = context.host, str(args["path"]), str(args["beside"])
    gone = f"{path}.gone"
    host.remove_tree(gone)
    back = _goes(context, path) or _version(host, args) == args["version"]
    if back or (why := _stays(host, args)):
        host.remove_tree(waits)
        return Reverted() if back else Kept(why, path)
    if host.stat(path) is not None:
        host.rename(path, gone)
    host.rename(waits, path)
    host.remove_tree(gone)
    if args["needs"] and (warning := unguarded(str(args["version"]))):
        context.tell(warning)
    return Reverted()


def foreseen(context: UndoContext, args: dict[str, Any]) -> Forecast:
    if _goes(context, str(args["path"])):
        return Forecast((f"remove {args['beside']}/ with all in it",))
    if _version(context.host, args) == args["version"]:
        return Forecast((f"{args['path']} is as it was",))
    why = _stays(context.host, args)
    if why:
        return Forecast(stays=(why,))
    warning = unguarded(str(args["version"])) if args["needs"] else ""
    return Forecast((words(args), *filter(None, (warning,))))


def unguarded(version: str) -> str:
    """Return a warning of the nqr of this version; empty if it needs none."""
    numbers = tuple(int(one) for one in re.findall(r"\d+", version)[:2])
    if numbers >= _GUARDED:
        return ""
    return f"nqr {version} is back: with it, run no second rollback, which would remove VMs, images and the database"


def words(args: dict[str, Any]) -> str:
    return f"put back {args['path']} of version {args['version']}"


def forget_older(host: Host, undos: Iterable[Undo]) -> None:
    """Remove what waits beside a place, but not what the newest of these records names. `undos`: oldest first."""
    found = [undo.args for undo in undos if undo.verb == NAME]
    newest = {args["path"]: args["beside"] for args in found}
    for older in {str(args["beside"]) for args in found} - set(newest.values()):
        host.remove_tree(older)


def _goes(context: UndoContext, path: str) -> bool:
    return any(undo.verb == "directory" and undo.args.get("path") == path for undo in context.older)


def _stays(host: Host, args: dict[str, Any]) -> str:
    """Return why what is at `path` now stays there; empty if it does not."""
    if host.stat(str(args["beside"])) is None:
        why = f"version {args['version']} is no longer kept"
    elif args["needs"] and host.stat(str(args["needs"])) is None:
        why = f"version {args['version']} needs {args['needs']}, which is gone"
    else:
        return ""
    return f"{args['path']} stays at version {_version(host, args) or 'unknown'}: {why}"


def _version(host: Host, args: dict[str, Any]) -> str:
    try:
        return str(json.loads(host.read_text(f"{args['path']}/{args['marker']}"))["version"])
    except (HostError, ValueError, KeyError, TypeError):
        return ""

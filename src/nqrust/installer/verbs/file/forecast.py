"""Forecast of reverting records of files or links, for cases that need a look at the host. Reads only, and decides like the
verbs."""

from __future__ import annotations

from typing import Any

from nqrust.installer.engine.verb import Forecast, UndoContext
from nqrust.installer.verbs.file import undo as files


def file(context: UndoContext, args: dict[str, Any]) -> Forecast:
    host, path, prior = context.host, str(args["path"]), args.get("prior")
    if files.is_prior(host, path, prior):
        return Forecast((f"{path} is as it was",))
    back = f"put back {path} as it was" if prior is not None else f"remove {path}"
    if host.stat(path) is not None and not files.is_ours(host, path, args.get("ours")):
        stays = (f"{path} was changed since; your version is kept beside it ({files.KEPT_SUFFIX})",)
        return Forecast((back,) if prior is not None else (), stays)
    return Forecast((back,))


def folder(context: UndoContext, args: dict[str, Any]) -> Forecast | None:
    why = context.held(str(args["path"]))
    return Forecast(waits=(why,)) if why else None


def symlink(context: UndoContext, args: dict[str, Any]) -> Forecast:
    host, path, prior = context.host, str(args["path"]), args.get("prior")
    if host.stat(path) is not None and not files.is_our_link(host, path, args):
        return Forecast(stays=(f"{path} was changed since",))
    return Forecast((f"point {path} back to {prior}" if prior is not None else f"remove {path}",))

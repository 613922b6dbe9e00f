"""Forecast of reverting what others may use by now. Reads only, and decides like the verbs."""

from __future__ import annotations

from typing import Any

from nqrust.installer.engine.verb import Forecast, UndoContext
from nqrust.installer.verbs.kernel import forwarding, undo


def sysctl(context: UndoContext, args: dict[str, Any]) -> Forecast | None:
    path = undo.sysctl_path(str(args["key"]))
    is_ours = context.host.exists(path) and context.host.read_text(path).strip() == args["ours"]
    sign = undo.used(context.host, args) if is_ours else ""
    return Forecast(stays=(forwarding.stays(sign),)) if sign else None


def module(context: UndoContext, args: dict[str, Any]) -> Forecast | None:
    name = str(args["name"])
    user = undo.since(context.host, args) if context.host.exists(f"/sys/module/{name.replace('-', '_')}") else ""
    return Forecast(stays=(undo.module_stays(name, user),)) if user else None

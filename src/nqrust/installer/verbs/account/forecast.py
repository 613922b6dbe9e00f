"""Forecast of reverting records of users and groups that wait for what stays. Reads only, and decides like the verbs."""

from __future__ import annotations

from typing import Any

from nqrust.installer.engine.verb import Forecast, UndoContext
from nqrust.installer.verbs.account import undo


def user(context: UndoContext, args: dict[str, Any]) -> Forecast | None:
    why = undo.user_stays(context, str(args["name"]))
    return Forecast(waits=(why,)) if why else None


def group(context: UndoContext, args: dict[str, Any]) -> Forecast | None:
    why = undo.group_stays(context, str(args["name"]))
    return Forecast(waits=(why,)) if why else None

"""Forecast of reverting records of VMs, for cases that need a look at the host. Reads only, and decides like the verbs."""

from __future__ import annotations

from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.service import undo as services


def vms(context: UndoContext, args: dict[str, Any]) -> str:
    running = services.scopes(context.host, str(args["prefix"]))
    return f"end the VMs that run: {', '.join(running)}" if running else "end the VMs that run: none now"

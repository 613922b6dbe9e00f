"""What reverting a record of VMs would do, where only a look at the host tells. Reads only, and decides as the verbs do."""

from __future__ import annotations

from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.service import undo as services


def vms(context: UndoContext, args: dict[str, Any]) -> str:
    running = services.scopes(context.host, str(args["prefix"]))
    return f"end the VMs that run: {', '.join(running)}" if running else "end the VMs that run: none now"

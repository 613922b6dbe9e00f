"""The verbs for units, supervisord and VMs, with their functions for the engine."""

from __future__ import annotations

from nqrust.installer.engine.verb import Settling, Verb
from nqrust.installer.verbs.service import forecast, shell, undo, words

_UNITS = Settling(
    needed=lambda args: bool(args["active"]),
    always=lambda args: args.get("supervisor") == "systemd",
    settle=undo.settle,
)

VERBS = (
    Verb("unit", undo.unit, words.unit, shell.unit, settling=_UNITS, rest=undo.rest, rest_script=shell.rest),
    Verb("supervisord", undo.supervisord, words.supervisord, shell.supervisord),
    Verb("vms", undo.vms, words.vms, shell.vms, forecast=forecast.vms, needs_programs=True),
)

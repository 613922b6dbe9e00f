"""The verb for packages, with its functions for the engine."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.packages import forecast, shell, undo, words

VERBS = (
    Verb(
        "packages",
        undo.packages,
        words.packages,
        shell.packages,
        forecast=forecast.packages,
        capture=undo.capture,
        conclude=undo.conclude,
        brings_programs=True,
    ),
)

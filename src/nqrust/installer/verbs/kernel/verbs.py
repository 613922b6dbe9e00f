"""The verbs for sysctls and kernel modules."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.kernel import forecast, shell, undo, words

VERBS = (
    Verb("sysctl", undo.sysctl, words.sysctl, shell.sysctl, forecast.sysctl, stays_script=shell.sysctl_stays),
    Verb(
        "module",
        undo.module,
        words.module,
        shell.module,
        forecast.module,
        needs_programs=True,
        stays_script=shell.module_stays,
    ),
)

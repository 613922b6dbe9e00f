"""The verbs for sysctls and kernel modules."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.kernel import shell, undo, words

VERBS = (
    Verb("sysctl", undo.sysctl, words.sysctl, shell.sysctl),
    Verb("module", undo.module, words.module, shell.module, needs_programs=True),
)

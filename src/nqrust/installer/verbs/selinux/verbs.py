"""The verb for SELinux rules."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.selinux import shell, undo, words

VERBS = (Verb("selinux_context", undo.context, words.context, shell.context, needs_programs=True),)

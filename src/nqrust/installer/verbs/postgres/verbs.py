"""The verbs for PostgreSQL roles and databases."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.postgres import undo, words

VERBS = (
    Verb("role", undo.role, words.role, needs_programs=True),
    Verb("database", undo.database, words.database, needs_programs=True),
)

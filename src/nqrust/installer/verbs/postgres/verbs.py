"""The verbs for PostgreSQL roles, databases and the rights in them."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.postgres import shell, undo, words

VERBS = (
    Verb("role", undo.role, words.role, shell.role, needs_programs=True),
    Verb("database_access", undo.access, words.access, shell.access, needs_programs=True),
    Verb("database", undo.database, words.database, shell.database, needs_programs=True),
    Verb("sign_in_rules", undo.rules, words.rules, shell.rules, needs_programs=True),
)

"""The verbs for firewall rules."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.firewall import shell, undo, words

VERBS = (
    Verb("rules", undo.rules, words.rules, shell.rules, needs_programs=True),
    Verb("ruleset", undo.ruleset, words.ruleset, shell.ruleset, needs_programs=True),
    Verb("firewalld", undo.zone, words.zone, shell.zone),
    Verb("bridge-table", undo.bridge_table, words.bridge_table, shell.bridge_table, needs_programs=True),
)

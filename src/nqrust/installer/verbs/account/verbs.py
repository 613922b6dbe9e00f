"""The verbs for users, groups and memberships."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.account import shell, undo, words

VERBS = (
    Verb("user", undo.user, words.user, shell.user),
    Verb("group", undo.group, words.group, shell.group),
    Verb("member", undo.member, words.member, shell.member),
)

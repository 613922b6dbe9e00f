"""The verbs for users, groups and memberships."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.account import forecast, shell, undo, words

VERBS = (
    Verb("user", undo.user, words.user, shell.user, forecast=forecast.user),
    Verb("group", undo.group, words.group, shell.group, forecast=forecast.group),
    Verb("member", undo.member, words.member, shell.member),
)

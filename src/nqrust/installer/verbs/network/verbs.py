"""The verbs for links, bridges and addresses."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.network import undo, words

VERBS = (
    Verb("link", undo.link, words.link, needs_programs=True),
    Verb("bridge", undo.bridge, words.bridge, needs_programs=True),
    Verb("addresses", undo.addresses, words.addresses, needs_programs=True),
)

"""The verbs for links, bridges and addresses."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.network import shell, undo, words

VERBS = (
    Verb("link", undo.link, words.link, shell.link, needs_programs=True),
    Verb("bridge", undo.bridge, words.bridge, shell.bridge, needs_programs=True),
    Verb("addresses", undo.addresses, words.addresses, shell.addresses, needs_programs=True),
    # Each attempt takes the network away for some seconds. A run that was interrupted leaves a record of its own.
    Verb("card", undo.card, words.card, shell.card, needs_programs=True, once=lambda args: str(args["link"])),
)

"""The verb for a resource of a service on this host."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.resource import shell, undo, words

VERBS = (Verb("resource", undo.resource, words.resource, shell.resource),)

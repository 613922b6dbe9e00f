"""A record in its shell form is made of calls; each word stands for itself there, whatever is in it."""

from __future__ import annotations

from shlex import quote


def call(name: str, *words: object) -> str:
    return " ".join([name, *(quote(str(word)) for word in words)])

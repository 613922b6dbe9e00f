"""Shell quoting: a record's shell form consists of calls, in which each word is literal."""

from __future__ import annotations

from shlex import quote


def call(name: str, *words: object) -> str:
    return " ".join([name, *(quote(str(word)) for word in words)])

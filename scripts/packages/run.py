"""Runs a program of the build and keeps its output for the error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "1704067200"))
"""Time of every file in the packages, in seconds: the one that the wheel of nqr has too."""


class Failed(Exception):
    """A program of the build failed. The message names it and its last lines."""


def run(arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    """Run a program and return its standard output. Raises Failed."""
    words = [str(word) for word in arguments]
    variables = {**os.environ, "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(EPOCH), **(environment or {})}
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=variables, check=False)
    if done.returncode != 0:
        last = "\n".join(f"  | {line}" for line in (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:])
        raise Failed(f"{words[0]} failed with exit code {done.returncode}:\n{last}")
    return done.stdout

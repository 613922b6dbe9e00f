"""The Python for a release's environments, and the pip that fills them."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Interpreter:
    """The two interpreters. `base`: the system's, which service users can run too. `runner`: the one that runs nqr. Its pip works
    with `--python`, so that no environment of a service needs its own pip."""

    base: str
    version: str
    runner: str


def interpreter() -> Interpreter:
    """Return the running process's interpreters. Replaces an interpreter in somebody's home with the system's."""
    # Resolved, so that every environment gives the same path. An environment's own path to its base depends on the Python
    # version and on the link that started it.
    base = os.path.realpath(str(getattr(sys, "_base_executable", "") or sys.executable))
    version = platform.python_version()
    if base.startswith(("/root/", "/home/")) and os.path.exists("/usr/bin/python3"):
        # No patch level: an environment follows the interpreter behind its link.
        base, version = os.path.realpath("/usr/bin/python3"), "system"
    return Interpreter(base, version, sys.executable)

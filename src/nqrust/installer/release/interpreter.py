"""Which Python a release's environments are made from, and which pip fills them."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Interpreter:
    """`base`: the system's interpreter, which service users can run too. `runner`: the one we run in; its pip is
    used with `--python`, so that no environment of a service needs a pip of its own."""

    base: str
    version: str
    runner: str


def interpreter() -> Interpreter:
    """Of the running process. An interpreter below somebody's home is passed over for the system's own."""
    # Resolved, so that it is the same from every environment: an environment's own name for its base depends on the
    # Python version and on which of its links it was started by.
    base = os.path.realpath(str(getattr(sys, "_base_executable", "") or sys.executable))
    version = platform.python_version()
    if base.startswith(("/root/", "/home/")) and os.path.exists("/usr/bin/python3"):
        # Its patch level is not asked for: an environment follows the interpreter that its link points to.
        base, version = os.path.realpath("/usr/bin/python3"), "system"
    return Interpreter(base, version, sys.executable)

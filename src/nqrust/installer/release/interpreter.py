"""The Python for a release's environments, and the pip that fills them."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass

from nqrust.contract.paths import INSTALL_DIR

BROUGHT = ".nqrust-python"
"""Marks a Python that the bootstrap brought: a folder that works anywhere (relocatable)."""


@dataclass(frozen=True)
class Interpreter:
    """The two interpreters. `base`: one that service users can run too. `runner`: the one that runs nqr. Its pip works with
    `--python`, so that no environment of a service needs its own pip.

    `home`: the folder of `base`, if the installation has its own Python. `brought`: the folder that it is copied from.
    """

    base: str
    version: str
    runner: str
    home: str = ""
    brought: str = ""


def interpreter(install_dir: str = INSTALL_DIR) -> Interpreter:
    """Return the running process's interpreters. Replaces an interpreter in somebody's home with the system's, and one that the
    bootstrap brought with the installation's copy below `install_dir`."""
    # Resolved, so that every environment gives the same path. An environment's own path to its base depends on the Python
    # version and on the link that started it.
    base = os.path.realpath(str(getattr(sys, "_base_executable", "") or sys.executable))
    version = platform.python_version()
    prefix = os.path.dirname(os.path.dirname(base))
    if os.path.exists(f"{prefix}/{BROUGHT}"):
        home = f"{install_dir}/python/{version}"
        return Interpreter(f"{home}/bin/{os.path.basename(base)}", version, sys.executable, home, prefix)
    if base.startswith(("/root/", "/home/")) and os.path.exists("/usr/bin/python3"):
        # No patch level: an environment follows the interpreter behind its link.
        base, version = os.path.realpath("/usr/bin/python3"), "system"
    return Interpreter(base, version, sys.executable)

"""Shell form of the records for SELinux rules: an undo script's functions and calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.shell_words import call

FUNCTIONS = r"""remove_selinux_rule() { # pattern
    has semanage || { kept "the SELinux rule for $1 stays: the program semanage is gone"; return; }
    semanage fcontext --list --locallist --noheading | cut -d ' ' -f 1 | grep -qxF -- "$1" || return 0
    try semanage fcontext --delete "$1"
}
"""


def context(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_selinux_rule", args["pattern"])

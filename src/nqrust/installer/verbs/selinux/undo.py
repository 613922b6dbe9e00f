"""The verb for rules about SELinux types of files (semanage-fcontext(8))."""

from __future__ import annotations

from typing import Any

from nqrust.host.errors import ProgramMissing
from nqrust.host.port import Host, command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext


def undo_context(pattern: str) -> Undo:
    """Remove nqr's rule for `pattern`, a regular expression of paths."""
    return Undo("selinux_context", {"pattern": pattern})


def rules(host: Host) -> dict[str, str]:
    """Return the rules of this host's administrator: pattern -> type. Raises HostError if semanage fails."""
    found = {}
    for line in host.run(
        command("semanage", "fcontext", "--list", "--locallist", "--noheading", timeout=120)
    ).stdout.splitlines():
        words = line.split()
        if len(words) > 1 and words[-1].count(":") >= 2:
            found[words[0]] = words[-1].split(":")[2]
    return found


def context(context: UndoContext, args: dict[str, Any]) -> Outcome:
    pattern = str(args["pattern"])
    try:
        if pattern not in rules(context.host):
            return Reverted("already gone")
        context.host.run(command("semanage", "fcontext", "--delete", pattern, timeout=120))
    except ProgramMissing:
        return Kept(f"the SELinux rule for {pattern} stays: the program semanage is gone")
    return Reverted()

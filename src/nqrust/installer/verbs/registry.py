"""The closed set of undo verbs. A name's meaning never changes; a new meaning is a new name."""

from __future__ import annotations

from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Outcome, UndoContext, Verb
from nqrust.installer.verbs.account import undo as accounts
from nqrust.installer.verbs.file import undo as files
from nqrust.installer.verbs.kernel import undo as kernel
from nqrust.installer.verbs.packages import undo as packages
from nqrust.installer.verbs.postgres import undo as postgres
from nqrust.installer.verbs.resource import undo as resources
from nqrust.installer.verbs.service import undo as services

VERBS: dict[str, Verb] = {
    "file": files.file,
    "block": files.block,
    "block_text": files.block_text,
    "directory": files.directory,
    "contents": files.contents,
    "mode": files.mode,
    "symlink": files.symlink,
    "user": accounts.user,
    "group": accounts.group,
    "member": accounts.member,
    "packages": packages.packages,
    "link": kernel.link,
    "sysctl": kernel.sysctl,
    "module": kernel.module,
    "rules": kernel.rules,
    "ruleset": kernel.ruleset,
    "bridge": kernel.bridge,
    "addresses": kernel.addresses,
    "unit": services.unit,
    "supervisord": services.supervisord,
    "vms": services.vms,
    "role": postgres.role,
    "database": postgres.database,
    "resource": resources.resource,
}

NEED_PROGRAMS = frozenset(("link", "module", "rules", "ruleset", "bridge", "addresses", "vms", "role", "database"))
"""Verbs that run programs which a package of ours may have brought: packages stay as long as one of these has failed."""


def revert(context: UndoContext, undo: Undo) -> Outcome:
    """Carry out one record. Raises JournalError NQR-ENG-014 for a verb we do not know, and what the verb raises."""
    verb = VERBS.get(undo.verb)
    if verb is None:
        raise JournalError(
            "NQR-ENG-014",
            f"The journal names the undo verb “{undo.verb}”, which this nqr does not know.",
            "Run the nqr that wrote it, or a newer one.",
        )
    return verb(context, undo.args)

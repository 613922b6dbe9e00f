"""The line that `nqr host token` prints for a new host, as answers of its settings."""

from __future__ import annotations

import shlex
from itertools import pairwise

from nqrust.guide.backend import JOIN_TOKEN, Answers
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.settings.options import BY_NAME

_TAKEN = {BY_NAME[name].flag: name for name in ("mode", "agent.name", "agent.manager_base")}
_CURE = "Run `nqr host token NAME` on the manager's host, and paste the whole line that begins with (umask."


def answers(line: str) -> Answers:
    """Return the manager's address, the name of this host and the token. Raises UsageError NQR-USE-031."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise _unknown("an open quotation mark") from error
    found = {_TAKEN[flag]: value for flag, value in pairwise(words) if flag in _TAKEN}
    token = next((word for before, word in pairwise(words) if before == "echo"), "")
    if not token.startswith("nqr_"):
        raise _unknown("no token")
    if "agent.manager_base" not in found:
        raise _unknown("no address of a manager")
    return Answers({**found, "mode": "agent"}, {JOIN_TOKEN: Secret(token)})


def _unknown(what: str) -> UsageError:
    return UsageError("NQR-USE-031", f"The pasted line is not a complete join line: it has {what}.", _CURE)

"""Names from the manager, for a person who waits at a prompt: within a second, or none. Says nothing, whatever happens."""

from __future__ import annotations

import re
from typing import Any

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")
"""Names that no shell expands. A shell puts the others into a command line as they are, so they are left out."""
_SECONDS = 1.0


def of(kind: str, words: list[str]) -> list[str]:
    """Return the names of `kind` (vms, images, hosts ...). `words`: arguments before the cursor, of which a snapshot needs its
    VM. Empty if the manager does not answer or refuses."""
    try:
        return [name for name in _asked(kind, words) if _SAFE.fullmatch(name)]
    except Exception:
        return []


def _asked(kind: str, words: list[str]) -> list[str]:
    from nqrust.cli import connection
    from nqrust.client import calls
    from nqrust.client.manager import ManagerClient

    lists: dict[str, Any] = {
        "vms": calls.list_vms, "images": calls.list_images, "hosts": calls.list_hosts, "volumes": calls.list_volumes,
        "tokens": calls.tokens, "users": calls.users, "unknown": calls.list_unknown_vms,
    }  # fmt: skip
    base, token = connection.address(None)
    with ManagerClient(base, token=token, timeout=_SECONDS, authority=connection.authority(base)) as client:
        found: Any
        if kind == "templates":
            found = client.all_templates()
        else:
            found = client.send(calls.list_snapshots(words[0]) if kind == "snapshots" else lists[kind]())
    return [str(getattr(one, "username", None) or one.name) for one in found.items]

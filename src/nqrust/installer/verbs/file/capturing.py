"""The original at a path: nqr keeps it and names it in the undo record."""

from __future__ import annotations

import base64
from typing import Any

from nqrust.host.port import Kind
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.originals import Originals


def capture(originals: Originals, args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the verb `file` with `prior`."""
    return args if "prior" in args else {**args, "prior": prior(originals, str(args["path"]))}


def prior(originals: Originals, path: str) -> dict[str, Any] | None:
    """Keep and return the current content of `path`. Raises StepFailed NQR-ENG-003."""
    stat = originals.host.stat(path)
    if stat is None:
        return None
    if stat.kind is Kind.symlink:
        return {"kind": "symlink", "target": originals.host.readlink(path)}
    if stat.kind is not Kind.file:
        raise StepFailed(
            "NQR-ENG-003",
            f"{path} is a {stat.kind.value}, so a file cannot be put there.",
            f"Move {path} away and run the same command again.",
        )
    data = originals.host.read_bytes(path)
    digest = originals.host.sha256(path)
    originals.keep(digest, data)
    return {
        "kind": "file",
        "sha256": digest,
        "mode": stat.mode,
        "owner": stat.owner,
        "group": stat.group,
        "xattrs": {k: base64.b64encode(v).decode() for k, v in originals.host.xattrs(path).items()},
    }

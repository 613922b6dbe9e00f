"""A file that the operator named and nqr copied: which of the two is read."""

from __future__ import annotations

import contextlib

from nqrust.host.errors import HostError
from nqrust.host.port import Host


def chosen(host: Host, named: str, copy: str, *, same: bool) -> str:
    """Return `copy` if `named` is gone and `copy` is there, otherwise `named`. `same`: the last install named the same file, so
    the copy is of it."""
    with contextlib.suppress(HostError):  # its file system does not answer: whoever reads the file tells
        return copy if same and not host.exists(named) and host.exists(copy) else named
    return named

"""Sockets in folders that a VM's user owns: root connects to that socket and to nothing that a link leads to."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator


@contextlib.contextmanager
def pinned(path: str) -> Iterator[str]:
    """Yield a path that leads to the socket at `path`, short enough for connect(2). Neither it nor its folder may be a link.

    Raises OSError."""
    folder, _, name = path.rpartition("/")
    directory = os.open(folder, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(f"{path} is not a socket")
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def stream(path: str, timeout: float = 2.0) -> Iterator[socket.socket]:
    """Yield a connection to the socket at `path`. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout)
        link.connect(path)
        yield link


def connected(path: str, timeout: float = 2.0) -> socket.socket:
    """Return a connection to the socket at `path`, which may not be a link. Raises OSError."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.settimeout(timeout)
        with pinned(path) as place:
            link.connect(place)
    except BaseException:
        link.close()
        raise
    return link

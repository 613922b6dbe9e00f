"""A certificate in a file that somebody else renews."""

from __future__ import annotations

import os
import ssl

from nqrust.tls import contexts


class ReloadingContext:
    """Call it for the context of the next connection. `path`: a key and its certificate, PEM. None while there is no such file.

    A new file is presented from the next connection on. While it is damaged, the former certificate stays.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._read: tuple[int, int] | None = None
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext | None:
        try:
            stat = os.stat(self._path)
        except OSError:
            return self._context
        found = (stat.st_ino, stat.st_mtime_ns)
        if found != self._read:
            self._read = found
            try:
                with open(self._path, encoding="ascii") as file:
                    text = file.read()
                self._context = contexts.server(text, text)
            except (OSError, ValueError):  # ssl.SSLError is an OSError
                pass
        return self._context

"""The password of the database, from a file that `nqr rotate` replaces while the manager runs."""

from __future__ import annotations

import structlog

log = structlog.get_logger("nqrust.manager.database")


class Password:
    """`path`: the file. None: the password is in the URL.

    A rotation writes the file before it changes the role, because PostgreSQL knows one password at a time. So a new connection
    tries the file's password first, then the last one that worked. Existing connections stay.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._worked: str | None = None

    def candidates(self) -> tuple[str | None, ...]:
        """Return the passwords to try, in order. None stands for the one in the URL."""
        if self._path is None:
            return (None,)
        try:
            with open(self._path, encoding="utf-8") as file:
                current = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            log.error("the password file cannot be read", path=self._path, why=str(error))
            return (self._worked,)
        return tuple(dict.fromkeys((current, *([self._worked] if self._worked is not None else []))))

    def worked(self, password: str | None) -> None:
        """Remember a password that the server accepted."""
        self._worked = password

"""Errors of access to a machine.

HostError
├── CommandFailed      exit code other than the accepted ones
├── CommandTimedOut    ended because it ran past its timeout
├── CommandStopped     ended because nobody wants its result any more
├── OutputTooLong      ended because it wrote more than was to be read
├── ProgramMissing     no such program on the host's PATH
├── ParseError         the machine's output has an unexpected format
└── PathError          a file operation failed (errno kept)
    ├── PathMissing        ENOENT
    └── NoSpace            ENOSPC, EDQUOT
"""

from __future__ import annotations

import contextlib
import errno as errnos
from collections.abc import Iterator


class HostError(Exception):
    """Base of all."""


class NotTrusted(HostError):
    """The server's certificate is not signed by the authority it has to prove, is for another name, or has ended."""


class CommandFailed(HostError):
    """A command ended with an exit code that was not accepted."""

    def __init__(self, argv: tuple[str, ...], code: int, stderr: str, stdout: str = "") -> None:
        self.argv, self.code, self.stderr, self.stdout = argv, code, stderr, stdout
        tail = (stderr.strip() or stdout.strip()).splitlines()[-3:]
        super().__init__(f"{argv[0]} exited with {code}" + (f": {' / '.join(tail)}" if tail else ""))


class CommandTimedOut(HostError):
    """A command did not end within its timeout (seconds) and was ended with its whole process group."""

    def __init__(self, argv: tuple[str, ...], timeout: float) -> None:
        self.argv, self.timeout = argv, timeout
        super().__init__(f"{argv[0]} did not end within {timeout:g} s")


class CommandStopped(HostError):
    """A command was ended with its whole process group: whoever asked for it has given up."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self.argv = argv
        super().__init__(f"{argv[0]} was stopped")


class OutputTooLong(HostError):
    """A command wrote more than `limit` bytes to one of its outputs, and was ended with its whole process group."""

    def __init__(self, argv: tuple[str, ...], limit: int) -> None:
        self.argv, self.limit = argv, limit
        super().__init__(f"{argv[0]} wrote more than {limit} bytes")


class ProgramMissing(HostError):
    """The program is not on the host."""

    def __init__(self, program: str) -> None:
        self.program = program
        super().__init__(f"{program} is not installed on this host")


class ParseError(HostError):
    """A parser could not read `what`."""

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        super().__init__(f"{what} cannot be understood: {reason}")


class PathError(HostError):
    """A file operation failed."""

    def __init__(self, path: str, reason: str, errno: int = 0) -> None:
        self.path, self.errno = path, errno
        super().__init__(f"{path}: {reason}")


class PathMissing(PathError):
    """There is nothing at that path."""


class NoSpace(PathError):
    """The file system (or the quota) is full."""


def translated(error: OSError | ValueError, path: str) -> PathError:
    """Return the port's error for an operating system's error. `path`: used if the error itself has none."""
    if not isinstance(error, OSError):
        return PathError(path, str(error), errnos.EINVAL)
    where = error.filename if isinstance(error.filename, str) and error.filename.startswith("/") else path
    number = error.errno or 0
    if number == errnos.ENOENT:
        return PathMissing(where, "there is no such file or directory", number)
    if number == errnos.ENOSPC:
        return NoSpace(where, "the file system is full", number)
    if number == errnos.EDQUOT:
        return NoSpace(where, "the quota is used up", number)
    return PathError(where, error.strerror or str(error), number)


@contextlib.contextmanager
def translating(path: str) -> Iterator[None]:
    """Raise PathError instead of OSError, and instead of the ValueError of a NUL byte in a path."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise translated(error, path) from error

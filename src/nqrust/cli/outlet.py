"""Standard output and error of nqr, whose reader may end before nqr does: `nqr vm ls | head -1`. So may a terminal that a program
shows, such as a window or sshd.

A command continues without the reader and ends with its own exit code, so that it leaves no work half done. Commands that print
until somebody stops them end with the reader.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys

TYPE_CHECKING = False  # typing would take half of the time before the handlers of signals stand
if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO


class ReaderGone(BrokenPipeError):
    """Nobody reads the output of a command any more, which prints until then. `exit_code`: the command's."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class _State:
    ends_with: int | None = None
    reader_gone = False


class follows:
    """A command that prints until somebody stops it: in this block, it ends with the reader of standard output. `exit_code`: with
    which exit code. A context manager of contextlib would be one more import."""

    def __init__(self, exit_code: int = 0) -> None:
        self._exit_code = exit_code

    def __enter__(self) -> None:
        if _State.reader_gone:
            raise ReaderGone(self._exit_code)
        self._before, _State.ends_with = _State.ends_with, self._exit_code

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _State.ends_with = self._before


class _Outlet(io.FileIO):
    """The file of an open stream, which takes everything once its reader has gone."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream.fileno(), "w", closefd=False)
        self.shows_results = stream is sys.stdout
        self._stream = stream  # it may close the file when it goes

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if not nobody_reads(self.fileno(), error):
                raise
            to_nowhere(self.fileno())
            _State.reader_gone |= self.shows_results
            if self.shows_results and _State.ends_with is not None:
                raise ReaderGone(_State.ends_with) from None
            return super().write(data)  # type: ignore[arg-type]


def nobody_reads(descriptor: int, error: OSError) -> bool:
    """Return whether a write failed because the reader of the pipe, or the terminal, has gone. A terminal says EIO then, as a broken
    disk does."""
    return error.errno == errno.EPIPE or (error.errno == errno.EIO and stat.S_ISCHR(os.fstat(descriptor).st_mode))


def to_nowhere(descriptor: int) -> None:
    """Let what is written to a descriptor vanish."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def through(stream: TextIO) -> TextIO:
    """Return a stream that writes to the same file through an outlet. A stream of a test without a file stays."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        raw = _Outlet(stream)
    except OSError:
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,
    )


def end() -> None:
    """Write out what is left. The command has reported output that cannot be written. Python would end with 120 for it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            to_nowhere(stream.fileno())

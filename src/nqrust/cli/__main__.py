"""Entry point: `nqr` and `python -m nqrust.cli`.

The user always gets an error with a code, never a traceback (unless NQR_DEBUG=1 asks for it). The process ends with the
documented exit code. Until the handlers of signals stand, this module imports only what Python itself has loaded.
"""

from __future__ import annotations

import codecs
import errno
import gc
import io
import os
import sys

TYPE_CHECKING = False  # typing would take half of the time before the handlers stand
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_STOPPED = 130
_NEW_OBJECTS = 50_000
"""New objects before a search for garbage. Modules make many objects and no garbage: with Python's 700, a tenth of the time of an
import is such searches."""

_PLAINER = {"“": '"', "”": '"', "…": "...", "–": "-", "✓": "+", "✗": "x"}


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Return an ASCII replacement for characters that the encoding lacks: known signs are spelled out, others become numbers."""
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end]
    return "".join(_PLAINER.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in lost), error.end


def _settle() -> None:
    """Make sure that programs get what they rely on: open standard streams that accept every character, and a working
    directory that exists."""
    from nqrust.cli import outlet
    from nqrust.cli.given import Given

    Given.umask = os.umask(0o022)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: the next file to open, this one, gets its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    codecs.register_error("plainer", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plainer")
    sys.stdout, sys.stderr = outlet.through(sys.stdout), outlet.through(sys.stderr)
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit; never return normally."""
    try:
        from nqrust.cli import signals

        signals.begin()
        from nqrust.cli import outlet
    except KeyboardInterrupt:
        os._exit(_STOPPED)
    _settle()
    gc.set_threshold(_NEW_OBJECTS)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would read the metadata of every package for them
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["_complete"]:  # of a shell, for words that the parser may not accept yet
        signals.end()
        from nqrust.cli.app import command
        from nqrust.cli.completion.answers import main as complete

        sys.exit(complete(words[1:], command))
    code = run(words)
    outlet.end()
    signals.end()
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    from nqrust.cli import failures, signals
    from nqrust.cli.app import command

    try:
        with signals.raising():
            return _outcome(argv, command)
    except signals.Stopped as stopped:
        return failures.stopped(argv, str(stopped))


def _outcome(argv: list[str], command: Callable[[], Any]) -> int:
    from nqrust.cli import failures, outlet

    try:
        result = command().main(args=argv, prog_name="nqr", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except outlet.ReaderGone as gone:
        return gone.exit_code
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            return failures.report(argv, error)
        outlet.to_nowhere(sys.stdout.fileno())
        return failures.report(argv, failures.not_written(error))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(f"{error}\n")
            return 0
        return failures.report(argv, error)


if __name__ == "__main__":
    main()

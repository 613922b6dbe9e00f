"""Every error that a user can meet here, as a code, a sentence and a cure. The sources are nqr, the flag parser and
unexpected errors."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from typing import Any

from nqrust.installer.engine.errors import Interrupted, NqrError, UsageError

DEBUG_VARIABLE = "NQR_DEBUG"


def require_root(command: str) -> None:
    """Raise UsageError NQR-USE-001 if the user is not root."""
    if os.geteuid() != 0:
        raise UsageError(
            "NQR-USE-001",
            f"`nqr {command}` must run as root.",
            "Run it with sudo.",
        )


def open_own_file(path: str, mode: int) -> int:
    """Return a descriptor of an empty file. In a folder that everybody may write to, others can guess the name: only a new file,
    or a plain file of one's own, is written to. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise PermissionError(errno.EPERM, "it exists and is not a plain file of yours", path)
        os.fchmod(descriptor, mode)
        os.ftruncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write_private(path: str, content: bytes, *, mode: int) -> None:
    """Write a file that only root may read. Raises UsageError NQR-USE-011."""
    try:
        with os.fdopen(open_own_file(path, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise UsageError(
            "NQR-USE-011", f"{path} cannot be written: {error.strerror or error}.", "Choose another path."
        ) from error


def not_written(error: OSError) -> NqrError:
    """Return the error of output that went nowhere."""
    return NqrError(
        "NQR-USE-040",
        f"nqr cannot write its output: {error.strerror or error}.",
        "Free some space, or send the output elsewhere. A change that the command made stays.",
    )


def report(argv: list[str], error: Exception) -> int:
    """Show an error in the requested format and return the exit code."""
    from nqrust.cli import session

    known = coded(error, argv)
    log_path = session.log_path()
    if known is None:
        known, log_path = _unexpected(error)
    show(argv, known, log_path)
    return known.exit_code


def stopped(argv: list[str], name: str) -> int:
    """Report a signal that arrived before the first change."""
    error = Interrupted("NQR-ENG-030", f"Stopped by {name}.", "Run the same command again when you are ready.")
    show(argv, error, "")
    return error.exit_code


def show(argv: list[str], error: NqrError, log_path: str) -> None:
    from nqrust.installer.reporting.plain import PlainReporter

    if wants_json_lines(argv):
        from nqrust.installer.reporting.jsonl import JsonLinesReporter

        JsonLinesReporter(sys.stdout).failure(error, log_path)
        return
    if asked_output(argv) in ("json", "yaml"):  # JSON is YAML, too
        shown = {"code": error.code, "message": error.what, "cure": error.cure, "exit_code": error.exit_code}
        sys.stderr.write(json.dumps({"error": shown}, indent=2) + "\n")
        return
    PlainReporter(sys.stdout, sys.stderr).failure(error, log_path)


_RUNS = ("install", "plan", "uninstall", "rollback", "verify", "phase", "upgrade", "rotate")
_TO_FILES = ("fingerprint", "support-bundle")
"""Commands whose --output is a file."""


def wants_json_lines(argv: list[str]) -> bool:
    """Return whether the arguments ask for the JSON lines of a run."""
    if not argv or argv[0] not in _RUNS:
        return False
    return (asked_output(argv) or os.environ.get("NQR_OUTPUT", "")) == "json"


def asked_output(argv: list[str]) -> str:
    """Return the output format of the arguments, "" without one. Searches the raw arguments, because the parser may have rejected
    them."""
    if argv and argv[0] in _TO_FILES:
        return ""
    asked, words = "", argv[: argv.index("--")] if "--" in argv else argv
    for position, word in enumerate(words):
        if word in ("-o", "--output") and position + 1 < len(words):
            asked = words[position + 1]
        elif word.startswith("--output="):
            asked = word.partition("=")[2]
        elif word.startswith("-o") and len(word) > 2:
            asked = word[2:]
    return asked


def coded(error: Exception, argv: list[str]) -> NqrError | None:
    """Return the error with code, what and cure; None if it is unexpected."""
    if isinstance(error, NqrError):
        return error
    names = {kind.__name__ for kind in type(error).__mro__}
    if "Abort" in names:
        return Interrupted("NQR-ENG-030", "Stopped.", "Run the same command again when you are ready.")
    if "ClickException" in names:
        return _usage(error, names, argv)
    code, what, cure = (getattr(error, name, None) for name in ("code", "what", "cure"))
    if isinstance(code, str) and code.startswith("NQR-") and what and cure:
        return NqrError(code, str(what), str(cure))
    from nqrust.host.errors import HostError

    if isinstance(error, HostError):
        return NqrError(
            "NQR-ENG-001",
            f"{str(error).rstrip('.')}.",
            "Fix this cause and run the command again.",
        )
    return None


def _usage(error: Any, names: set[str], argv: list[str]) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else _command_path(argv)
    see = f"See: {path} --help"
    message = str(error.format_message()).splitlines()[0].rstrip(".") + "."
    if "NoSuchOption" in names:
        name = error.option_name
        known = [o for p in getattr(getattr(context, "command", None), "params", ()) for o in (*p.opts, *p.secondary_opts)]
        near = _suggestions().option(name, known, path)
        return UsageError("NQR-USE-002", f"`{path}` has no flag {name}.", near or see)
    if "MissingParameter" in names:
        names_of_it = [*getattr(error.param, "opts", ()), getattr(error.param, "metavar", None) or "a value"]
        flag = next((n for n in names_of_it if n.startswith("--")), names_of_it[-1])
        return UsageError("NQR-USE-004", f"`{path}` needs {flag.strip('[].')}.", see)
    if "BadOptionUsage" in names:
        return UsageError("NQR-USE-004", f"`{path}`: {message}".replace("requires an argument", "needs a value"), see)
    if "BadParameter" in names:
        return UsageError("NQR-USE-003", _bad_value(message), see)
    if message.startswith("No such command"):
        name = message.split("'")[1] if "'" in message else ""
        rest = argv[argv.index(name) + 1 :] if name in argv else []
        root = context.find_root().command if context is not None else None
        near = _suggestions().command(name, path.split()[1:], rest, root) if root is not None else ""
        return UsageError("NQR-USE-005", f"`{path}` has no command {name or '“”'}.", near or see)
    if "unexpected extra argument" in message:
        extra = message.partition("(s) (")[2].removesuffix(").") or message.partition("argument (")[2].removesuffix(").")
        return UsageError("NQR-USE-006", f"`{path}` takes nothing more, but got: {extra}.", see)
    return UsageError("NQR-USE-004", f"`{path}`: {message[:1].lower()}{message[1:]}", see)


def _bad_value(message: str) -> str:
    """Return the parser's words about a value in those of nqr."""
    found = re.fullmatch(r"Invalid value for (.+?): (.+)\.", message)
    if found is None:
        return message
    from nqrust.contract.text import fault

    return f"{found[1].rpartition(' / ')[2].strip(chr(39))} is not valid: {fault(found[2])}."


def _suggestions() -> Any:
    """The parser comes with this module, and no other error needs it."""
    from nqrust.cli import suggestions

    return suggestions


def _command_path(argv: list[str]) -> str:
    """Return `nqr vm create` from a command line. A group's own command counts too."""
    words = [word for word in argv if not word.startswith("-")]
    alone = ("install", "plan", "uninstall", "rollback", "verify", "status", "doctor", "logs", "rotate", "version")
    depth = 1 if words and words[0] in alone else 2
    return " ".join(["nqr", *words[:depth]])


def choice(flag: str, value: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`; raise UsageError NQR-USE-003 otherwise."""
    if value in choices:
        return value
    near = _suggestions().near(value.lower(), choices)
    raise UsageError(
        "NQR-USE-003",
        f"{flag} cannot be “{value}”: it must be one of {', '.join(choices)}.",
        near or f"Use one of {', '.join(choices)}.",
    )


def _unexpected(error: Exception) -> tuple[NqrError, str]:
    """Report a bug in nqr. The traceback goes to the log, and to the terminal only with NQR_DEBUG."""
    import traceback

    from nqrust.cli import session

    trace = "".join(traceback.format_exception(error))
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        sys.stderr.write(trace)
    what = f"nqr met an error that it did not expect: {type(error).__name__}."
    shown = NqrError("NQR-ENG-999", what, "Report this error with the log. NQR_DEBUG=1 shows the details.")
    return shown, session.keep_trace(shown, trace)

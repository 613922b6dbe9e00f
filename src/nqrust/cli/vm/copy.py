"""nqr vm cp: files and folders into a guest and out of it, as a tar stream of a session. The guest needs tar(1)."""

from __future__ import annotations

import io
import os
import queue
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO, Annotated, cast

import typer

from nqrust.cli.connection import ManagerUrl
from nqrust.cli.given import Given
from nqrust.cli.vm import archive, booting
from nqrust.cli.vm.guest_session import Session, SessionFailed, Sink, connected, ticket
from nqrust.contract.guest import ExecRequest, Kind
from nqrust.contract.text import plain
from nqrust.installer.engine.errors import UsageError

Open = Callable[[Sink, Callable[[], None]], AbstractContextManager[Session]]
"""How a new session is opened: with a sink, and a function that is called at its end."""
_COMPLAINTS = 2000  # bytes
_SEND = 'p=$(readlink -f "$1") && [ -e "$p" ] || { echo "there is no such file or folder" >&2; exit 1; }; cd / && '
_SEND += 'exec tar -cf - -C "$(dirname "$p")" "./$(basename "$p")"'
_PROBE = '[ -d "$1" ] && exit 10; [ -d "$(dirname "$1")" ] && exit 11; exit 12'
_IS_FOLDER, _IS_NEW = 10, 11


def build(app: typer.Typer) -> None:
    app.command("cp", help="Copy a file or a folder into a VM, or out of it.")(cp)


def cp(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="File or folder, or NAME:PATH in a VM.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="NAME:PATH in a VM, or file or folder.")],
    boot_timeout: booting.BootTimeout = booting.PATIENCE,
    url: ManagerUrl = None,
) -> None:
    to, into = _parsed(target)
    of, out = _parsed(source)
    if (to is None) == (of is None):
        raise UsageError("NQR-USE-027", "Exactly one of the two paths must be in a VM.", "Name the VM: nqr vm cp FILE web1:/tmp/")
    name = to or of or ""
    opened = _over_manager(name, url)
    booting.until_ready(name, url, boot_timeout, lambda: _command(opened, ["/bin/sh", "-c", ":"]))
    if to is not None:
        upload(opened, name, source, into)
    else:
        os.umask(Given.umask)  # the files are the caller's own
        download(opened, name, out, target)


def _parsed(text: str) -> tuple[str | None, str]:
    """Return the VM, None for this machine, and the path. A path with a colon needs a slash before it, as with scp(1)."""
    name, colon, path = text.partition(":")
    return (name, path or ".") if colon and name and "/" not in name else (None, text)


def _over_manager(name: str, url: str | None) -> Open:
    @contextmanager
    def opened(sink: Sink, woken: Callable[[], None]) -> Iterator[Session]:
        address, trusted = ticket(name, url)
        with connected(address, name, trusted) as connection:
            yield Session(connection, name, sink, woken)

    return opened


def upload(open_session: Open, name: str, source: str, target: str) -> None:
    """Copy `source` to `target` in the guest: into it if it is a folder. Raises SessionFailed."""
    if not os.path.exists(source):
        raise _of_this_machine(f"{source} does not exist")
    found = _command(open_session, ["/bin/sh", "-c", _PROBE, "sh", target.rstrip("/") or "/"])
    if found != _IS_FOLDER and (found != _IS_NEW or target.endswith("/")):
        raise _of_guest(name, f"there is no folder for {target}")
    base = os.path.basename(os.path.abspath(source)) or "root"
    folder, called = (target, base) if found == _IS_FOLDER else os.path.split(target)
    complaints = _Complaints()
    with open_session(complaints.take, lambda: None) as session:
        session.start(_request(["tar", "-xpf", "-", "-C", folder or "."]))
        try:
            archive.write(cast(IO[bytes], _Writer(session)), source, called, _skipped)
        except BrokenPipeError:
            pass  # the exit code says more
        except OSError as error:
            raise _of_this_machine(f"{source} cannot be read ({error.strerror or error})") from error
        session.end_input()
        if session.wait():
            raise _of_guest(name, complaints.text() or "tar failed")


def download(open_session: Open, name: str, source: str, target: str) -> None:
    """Copy `source` of the guest to `target`: into it if it is a folder. Raises SessionFailed."""
    base = os.path.basename(os.path.normpath(source))
    if base in ("", ".", ".."):
        base = name
    folder, called = (target, base) if os.path.isdir(target) else os.path.split(target)
    if not called or not os.path.isdir(folder or "."):
        raise _of_this_machine(f"there is no folder for {target}")
    complaints, pieces = _Complaints(), _Reader()

    def take(kind: Kind, data: bytes) -> None:
        (pieces.take if kind is Kind.stdout else lambda data: complaints.take(kind, data))(data)

    with open_session(take, lambda: pieces.end() if session.over else None) as session:
        session.start(_request(["/bin/sh", "-c", _SEND, "sh", source]))
        session.end_input()
        try:
            archive.read(cast(IO[bytes], pieces), folder or ".", called, _skipped)
            pieces.rest()
        except (OSError, tarfile.TarError, archive.Hostile) as error:
            pieces.leave()
            if isinstance(error, tarfile.TarError) and session.wait():
                raise _of_guest(name, complaints.text() or "tar failed") from error
            raise _of_this_machine(f"the files of {name} cannot be taken ({plain(str(error))})") from error
        if session.wait():
            raise _of_guest(name, complaints.text() or "tar failed")


class _Writer(io.RawIOBase):
    def __init__(self, session: Session) -> None:
        self._session = session

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if not self._session.write(data):
            raise BrokenPipeError
        return len(data)


class _Reader(io.RawIOBase):
    """A pipe between two threads. It holds few pieces: the guest waits."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes] = queue.Queue(maxsize=16)
        self._now, self._ended, self._left = b"", False, False

    def take(self, data: bytes) -> None:
        while not self._left:
            with suppress(queue.Full):
                self._pieces.put(data, timeout=0.2)
                return

    def end(self) -> None:
        self.take(b"")

    def leave(self) -> None:
        """Nobody reads any more."""
        self._left = True

    def read(self, count: int = -1) -> bytes:
        if not self._now and not self._ended:
            self._now = self._pieces.get()
            self._ended = not self._now
        got, self._now = self._now[:count], self._now[count:]
        return got

    def rest(self) -> None:
        """Read what follows the archive, and drop it."""
        while self.read(1 << 16):
            pass


class _Complaints:
    """The first part of what a command says of its errors."""

    def __init__(self) -> None:
        self._data = b""

    def take(self, kind: Kind, data: bytes) -> None:
        self._data = (self._data + data)[:_COMPLAINTS]

    def text(self) -> str:
        return "; ".join(plain(self._data.decode("utf-8", "replace")).split("\n")).strip("; .")


def _command(open_session: Open, command: list[str]) -> int:
    with open_session(lambda kind, data: None, lambda: None) as session:
        session.start(_request(command))
        session.end_input()
        return session.wait()


def _request(command: list[str]) -> ExecRequest:
    return ExecRequest(tuple(os.fsencode(word) for word in command))


def _skipped(path: str) -> None:
    sys.stderr.write(f"left out, neither a file, a folder nor a link: {plain(path)}\n")


def _of_guest(name: str, why: str) -> SessionFailed:
    return SessionFailed(
        "NQR-VMM-133", f"The guest of {name} did not copy: {why}.", "Check the path and the free space in the guest.", 1
    )


def _of_this_machine(why: str) -> SessionFailed:
    return SessionFailed("NQR-VMM-134", f"The copy failed on this machine: {why}.", "Check the path and the free space.", 1)

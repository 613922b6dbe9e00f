"""The journal on disk: append, fsync of the file and, when it is new, of its directory (fsync(2), NOTES)."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress

from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.journal import no_room

BALLAST = 256 * 1024
"""Bytes kept free beside the journal: the records of going back from an install need less."""


class FileJournalStore:
    """`path` is made (0600, its directory 0700) at the first append; reading a missing file gives nothing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.cramped = False
        self._has_ballast = False
        self._owed: int | None = None  # bytes to cut the file back to before the next line

    def read(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""
        except PermissionError:
            raise JournalError(
                "NQR-ENG-012", "The journal can be read by root only.", "Run the same command with sudo."
            ) from None

    def append(self, line: bytes) -> None:
        """Raises JournalError NQR-ENG-013. On a full disk the ballast goes first, so that a way back can be recorded, and
        `cramped` says so."""
        try:
            self._relay_ballast()
            try:
                self._append(line)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._drop_ballast():
                    raise
                self.cramped = True
                self._append(line)
        except OSError as error:
            folder = os.path.dirname(self.path)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise no_room(folder, str(error.strerror)) from error
            raise JournalError(
                "NQR-ENG-013",
                f"The journal cannot be written: {error.strerror}.",
                f"Make {folder} writable and run the same command again; nothing was changed without a record.",
            ) from error

    def _append(self, line: bytes) -> None:
        folder = os.path.dirname(self.path)
        new = not os.path.exists(self.path)
        if new:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._lay_ballast()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if self._owed is not None:
                os.ftruncate(descriptor, self._owed)
            self._owed = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
            if new:
                for directory in (folder, os.path.dirname(folder)):
                    self._sync_directory(directory)
            self._owed = None
        except OSError:  # a line that may not be on disk is none, or the next one would bear its number
            if self._owed is not None:
                with suppress(OSError):
                    os.ftruncate(descriptor, self._owed)
                    self._owed = None
            raise
        finally:
            os.close(descriptor)

    @property
    def _ballast(self) -> str:
        return os.path.join(os.path.dirname(self.path), "ballast")

    def _lay_ballast(self) -> None:
        """Real blocks, not a hole: random(4) data does not compress. Raises OSError when there is not even so much room."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(os.urandom(BALLAST))
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError:
            os.unlink(self._ballast)
            raise
        finally:
            os.close(descriptor)

    def _relay_ballast(self) -> None:
        """What an earlier run had to use is kept free again, where there is room by now."""
        if not self._has_ballast and os.path.exists(self.path) and not os.path.exists(self._ballast):
            with suppress(OSError):
                self._lay_ballast()
        self._has_ballast = True

    def _drop_ballast(self) -> bool:
        try:
            os.unlink(self._ballast)
        except OSError:
            return False
        return True

    def truncate(self, size: int) -> None:
        if os.geteuid() != 0 and not os.access(self.path, os.W_OK):
            return  # a reader may look at a torn journal; the next writer mends it
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return
        self._sync_directory(os.path.dirname(self.path))

    @staticmethod
    def _sync_directory(path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class ReadOnlyJournalStore(FileJournalStore):
    """For what only looks. Nothing is changed without a record first, so an attempt to write one is a defect: JournalError
    NQR-ENG-018."""

    def append(self, line: bytes) -> None:
        raise _only_reads()

    def truncate(self, size: int) -> None:
        return  # the next writer mends a torn journal

    def discard(self) -> None:
        raise _only_reads()


def _only_reads() -> JournalError:
    return JournalError(
        "NQR-ENG-018",
        "A command that only reads tried to change this host; it was stopped before it did.",
        "Please report it with the command that you ran.",
    )


class CrashingJournalStore(FileJournalStore):
    """Ends this process with SIGKILL at its n-th append, counted from 1: right after it when `after` says so, just before
    it (what it announces is done, or not begun, and nobody wrote that down) when `before` does. 0: not at all.

    This is how the kill matrix cuts the power at every record; used only when its variables are set, which no user
    needs to do.
    """

    def __init__(self, path: str, *, after: int = 0, before: int = 0) -> None:
        super().__init__(path)
        self._after, self._before, self._count = after, before, 0

    def append(self, line: bytes) -> None:
        self._count += 1
        if self._count == self._before:
            os.kill(os.getpid(), signal.SIGKILL)
        super().append(line)
        if self._count == self._after:
            os.kill(os.getpid(), signal.SIGKILL)

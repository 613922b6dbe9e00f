"""The journal on disk. Each append syncs the file and, for a new file, its directory (fsync(2), NOTES)."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress

from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.journal import no_room

BALLAST = 256 * 1024
"""Bytes reserved beside the journal. The records of rolling back an install need less."""


class FileJournalStore:
    """A journal in a file. The first append creates `path` (0600, its directory 0700). Reading a missing file returns nothing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.cramped = False
        self._has_ballast = False
        self._owed: int | None = None  # length in bytes to truncate the file to before the next line

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
        """Append one line. On a full disk, free the ballast first, so that the rollback can be recorded, and set `cramped`.
        Raises JournalError NQR-ENG-013."""
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
        except OSError:  # drop a line that may not be on disk, or the next line would have its number
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
        """Write real blocks, not a hole: random(4) data does not compress. Raises OSError if the disk has no room for them."""
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
        """Reserve the ballast again after an earlier run used it, if there is room now."""
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
    """A journal for readers. Every change needs a record first, so an append here is a bug: JournalError NQR-ENG-018."""

    def append(self, line: bytes) -> None:
        raise _only_reads()

    def truncate(self, size: int) -> None:
        return  # the next writer repairs a torn journal

    def discard(self) -> None:
        raise _only_reads()


def _only_reads() -> JournalError:
    return JournalError(
        "NQR-ENG-018",
        "A read-only command tried to change this host. nqr stopped it before the change.",
        "Report this bug, and name the command that you ran.",
    )


class CrashingJournalStore(FileJournalStore):
    """A journal that ends this process with SIGKILL at its n-th append, counted from 1. `after`: right after the append.
    `before`: just before it, when the work behind the record may be done but is not recorded. 0: never.

    The kill matrix uses it to cut the power at every record. Only its environment variables enable it; users never need them.
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

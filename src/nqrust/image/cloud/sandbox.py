"""Runs the programs that read a hostile image: as a user without a name, without network, within limits, under a filter of calls.

The most that such a program can be made to do is write to the scratch folder, which is its user's. No process of it is left when
a call returns. unshare(1), prlimit(1), setpriv(1).
"""

from __future__ import annotations

import shlex
import zlib
from dataclasses import dataclass

from nqrust.contract.names import IMAGE_USERS
from nqrust.host import confinement, memory
from nqrust.host.ending import ENDS_WHOLE
from nqrust.host.errors import PathError
from nqrust.host.port import Completed, Host, Kind, command

LONGEST = 3600.0
"""Seconds for one program: the conversion of a large disk."""
LARGEST_OUTPUT = 4 << 20
_MEMORY = 4 << 30
_OPEN_FILES = _PROCESSES = 64
_FOR_EVERYBODY = "/run /tmp /var/tmp /dev/shm /dev/mqueue"
_HIDE = (
    f"for folder in {_FOR_EVERYBODY}; do "
    'case "$needed" in "$folder"/*) continue ;; esac; [ -d "$folder" ] || continue; '
    'mount -n -t tmpfs -o ro,nosuid,nodev,noexec,size=4k nqr-hidden "$folder" || exit 125; done'
)


@dataclass(frozen=True)
class Sandbox:
    """`folder`: the scratch folder. `largest`: bytes of the largest file that a program may write."""

    host: Host
    folder: str
    user: int
    largest: int

    def run(self, *argv: str, ok: tuple[int, ...] = (0,), timeout: float = LONGEST) -> Completed:
        """Run `argv` in the scratch folder. Raises HostError."""
        limits = {
            "as": _MEMORY,
            "fsize": self.largest,
            "nofile": _OPEN_FILES,
            "nproc": _PROCESSES,
            "core": 0,
        }
        return self.host.run(
            command(
                *confinement.confined("unshare"),
                *("--net", "--ipc", "--mount", "--propagation", "slave", *ENDS_WHOLE),
                *("sh", "-c", f'needed={shlex.quote(self.folder)}; {memory.DIE_FIRST}; {_HIDE}; exec "$@"', "sh"),
                *("prlimit", *(f"--{name}={value}" for name, value in limits.items())),
                *("setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--inh-caps=-all"),
                *("--bounding-set=-all", "--no-new-privs", "--"),
                *argv,
                cwd=self.folder,
                ok=ok,
                timeout=timeout,
                longest=LARGEST_OUTPUT,
            )
        )

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def size(self, name: str) -> int:
        """Return the bytes of a plain file that a program wrote. Raises PathError for anything else."""
        found = self.host.stat(self.path(name))
        if found is None or found.kind is not Kind.file or found.uid != self.user:
            raise PathError(self.path(name), "the program wrote no plain file")
        return found.size

    def read(self, name: str, limit: int) -> bytes:
        """Return what a program wrote to a file. Raises PathError, also if it is longer than `limit` bytes."""
        if self.size(name) > limit:
            raise PathError(self.path(name), f"it is longer than {limit} bytes")
        return self.host.read_bytes(self.path(name), limit)

    def read_start(self, name: str, count: int) -> bytes:
        """Return the first `count` bytes of a plain file of the sandbox's user. Raises PathError."""
        self.size(name)
        return self.host.read_bytes(self.path(name), count)

    def take(self, name: str, target: str, limit: int) -> None:
        """Move a file that a program wrote to `target` on the same file system, as root's (0644). Raises PathError."""
        if self.size(name) > limit:
            raise PathError(self.path(name), f"it is longer than {limit} bytes")
        self.host.rename(self.path(name), target)
        self.host.set_mode(target, mode=0o644, owner="root", group="root")


def opened(host: Host, folder: str, largest: int) -> Sandbox:
    """Make the scratch folder and return its sandbox. Two builds at once get different users. Raises HostError."""
    user = IMAGE_USERS[zlib.crc32(folder.encode()) % len(IMAGE_USERS)]
    host.mkdir(folder, mode=0o700, owner=str(user), group=str(user))
    return Sandbox(host, folder, user, largest)

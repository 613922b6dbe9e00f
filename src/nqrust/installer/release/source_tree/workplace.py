"""The place of a build: a scratch folder, and programs that run there without privileges.

Compilers, build scripts and packages of npm run code of strangers. nqr runs them as a user number that no account and no
process has. So a build can change nothing on the host, and leaves no account. See setpriv(1).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from nqrust.contract.text import plain, shown
from nqrust.host.environment import PATH, certificates
from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import Progress

NUMBERS = range(61000, 61100)
"""User numbers that no distribution gives to accounts: above those of users, below those of systemd's dynamic users."""
TIMEOUT = 3600.0
LEFT_OUT = ("./target", "node_modules", "./.git", ".next")
"""Files that a build leaves out, as exclusions of tar(1)."""
_LOG_LINES = 200_000
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")
"""Folders where every user may write. Programs of a build see empty ones, which go with the scratch folder."""
# In namespaces of its own, unshare(1). The scratch folder may be in a folder that is hidden, so it is mounted again at its own place:
# `.` is still the real one. Then tools in root's home or cache, which are out of reach for others, are shown below it. A program may
# have put a link at `place`: root would enter a folder that is closed to the next program.
_VIEW = """
scratch=$1 place=$2
shift 2
cd "$scratch" || exit
inside=$(pwd -P)
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mount --bind "$scratch/temporary" "$1" || exit
        case $scratch in "$1"/*) mkdir -p "$scratch" && mount --no-canonicalize --bind . "$scratch" && cd "$scratch" || exit ;; esac
    fi
    shift
done
shift
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done
shift
cd "$place" || exit
case $(pwd -P)/ in
    "$inside"/*) exec "$@" ;;
    *) echo "$place leads out of the build" >&2; exit 1 ;;
esac
"""


@dataclass
class Workplace:
    """`folder`: the scratch folder. `number`: user number of the programs. `shown`: path -> what programs see there. `hides`: whether
    this host lets programs see TEMPORARY of their own. `lines`: all output, for the log."""

    host: Host
    folder: str
    progress: Progress
    number: int
    hides: bool = True
    shown: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def run(self, *argv: str, cwd: str = "", env: Mapping[str, str] | None = None, path: tuple[str, ...] = ()) -> str:
        """Run a program in `cwd` (default: the tree) and return its standard output. `path`: folders before the usual PATH. Raises
        ReleaseError NQR-REL-091."""
        self.lines.append(f"$ {' '.join(argv)}")
        home = f"{self.folder}/home"
        place = cwd or f"{self.folder}/tree"
        variables = {
            "HOME": home,
            "TMPDIR": f"{self.folder}/temporary",
            "PATH": ":".join((*path, PATH)),
            "CI": "1",
            **self._certificates(),
            **(env or {}),
        }
        try:
            done = self.host.run(
                command(*self._wrapped(argv, place), env=variables, cwd=place, timeout=TIMEOUT), on_line=self._tell
            )
        except CommandFailed as error:
            last = (error.stderr.strip() or error.stdout.strip()).splitlines()[-1:]
            raise failed(argv[0], shown(" ".join(last)) or f"exit code {error.code}") from error
        except CommandTimedOut as error:
            raise failed(argv[0], f"it took more than {TIMEOUT:.0f} seconds") from error
        return done.stdout

    def _wrapped(self, argv: tuple[str, ...], place: str) -> tuple[str, ...]:
        number = str(self.number)
        ids = ("--reuid", number, "--regid", number, "--clear-groups", "--no-new-privs", "--inh-caps", "-all")
        words = ("setpriv", *ids, "--bounding-set", "-all", *argv)
        hidden = TEMPORARY if self.hides else ()
        pairs = (part for path, seen in self.shown.items() for part in (seen, path))
        view = ("sh", "-c", _VIEW, "sh", self.folder, place, *hidden, "--", *pairs, "--", *words)
        return ("unshare", "--mount", "--ipc", *view) if self.hides or self.shown else view

    def show(self, name: str, folder: str) -> str:
        """Let the programs see a folder that only root can reach. Return its path for them."""
        path = f"{self.folder}/shown/{name}"
        if not self.host.exists(posixpath.dirname(path)):
            self.host.mkdir(posixpath.dirname(path), mode=0o755)
        self.host.mkdir(path, mode=0o755)
        self.shown[path] = folder
        return path

    def name_user(self, name: str) -> None:
        """Give the number of the build a name, which some programs ask for. Only programs of the build see it."""
        line = f"{name}:x:{self.number}:{self.number}::{self.folder}/home:/bin/sh\n"
        seen = f"{self.folder}/passwd"
        self.host.write_file(seen, (self.host.read_text("/etc/passwd") + line).encode(), mode=0o644, synced=False)
        self.shown["/etc/passwd"] = seen

    def _certificates(self) -> dict[str, str]:
        file = certificates(self.host.environment())
        return dict.fromkeys(("CARGO_HTTP_CAINFO", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"), file) if file else {}

    def _tell(self, line: str) -> None:
        if line.strip():
            line = plain(line)  # programs of strangers wrote it
            if len(self.lines) < _LOG_LINES:
                self.lines.append(line)
            self.progress(line.strip(), None)


def open_workplace(host: Host, folder: str, tree: str, progress: Progress) -> Workplace:
    """Make the scratch folder and copy the tree into it. Needs root. Raises ReleaseError, HostError."""
    place = Workplace(host, folder, progress, free_number(host, posixpath.dirname(folder)))
    host.mkdir(folder, mode=0o755)
    owner = ("-o", str(place.number), "-g", str(place.number))
    host.run(
        command("install", "-d", "-m", "0700", *owner, *(f"{folder}/{name}" for name in ("home", "tree", "out", "temporary")))
    )
    place.hides = _may_mount(host)
    progress("copying the source tree", None)
    packed = f"{folder}/tree.tar"
    # root's folder may be closed to others, and so is its copy.
    host.write_file(packed, b"", mode=0o600, owner=str(place.number), group=str(place.number), synced=False)
    skipped = [f"--exclude={name}" for name in LEFT_OUT]
    host.run(command("tar", "-C", tree, *skipped, "-cf", packed, ".", timeout=600))
    place.run("tar", "--no-same-owner", "-xf", packed)
    host.remove(packed)
    return place


def _may_mount(host: Host) -> bool:
    """Return whether root may mount here. Some containers refuse it; programs that write to /tmp by name leave files there then."""
    try:
        host.run(command("unshare", "--mount", "--ipc", "true", timeout=60))
    except HostError:
        return False
    return True


def clear(host: Host, folder: str) -> None:
    """Remove a scratch folder that a killed run left, and end the programs of its build. Raises HostError."""
    home = host.stat(f"{folder}/home")
    if home is not None and home.uid in NUMBERS:
        host.kill_all_of(home.uid, home.uid + 1)
    host.remove_tree(folder, synced=False)


def close_workplace(place: Workplace) -> None:
    """End every program of the build and remove the scratch folder. Raises HostError."""
    place.host.kill_all_of(place.number, place.number + 1)
    place.host.remove_tree(place.folder, synced=False)


def free_number(host: Host, scratch: str) -> int:
    """Return a user number of NUMBERS that no account, no process and no other build below `scratch` has, and whose next number is
    free too. Raises ReleaseError NQR-REL-092."""
    taken = {line.split(":")[2] for line in host.read_text("/etc/passwd").splitlines() if line.count(":") >= 6}
    running = {str(stat.uid) for name in host.listdir("/proc") if name.isdigit() and (stat := host.stat(f"/proc/{name}"))}
    building = {str(stat.uid) for path in host.glob(f"{scratch}/*/home") if (stat := host.stat(path))}
    for number in NUMBERS[::2]:
        if not {str(number), str(number + 1)} & (taken | running | building):
            return number
    raise ReleaseError(
        "NQR-REL-092",
        f"All user ids from {NUMBERS[0]} to {NUMBERS[-1]} are taken by accounts or programs.",
        "Wait for other builds to end, then run the same command again.",
    )


def usable(place: Workplace, *argv: str) -> str:
    """Return a program's output, or "" if it does not run in the workplace."""
    try:
        return place.run(*argv, cwd=place.folder)
    except (ReleaseError, HostError):
        return ""


def failed(program: str, why: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-091",
        f"The build failed in {posixpath.basename(program)}: {why}.",
        "Read the log of the build, correct the source tree, then run the same command again.",
    )

"""Debian's package manager: apt-get(8), apt-mark(8), dpkg-query(1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nqrust.contract import names as product
from nqrust.host import locks
from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Command, Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.verbs.packages.apt import torn_clusters
from nqrust.installer.verbs.packages.apt.collecting import INDEX, only, trusted
from nqrust.installer.verbs.packages.manager import OutputLine, Signs, StartPolicy

LOCK_SECONDS = 600
INDEX_MAX_AGE = 24 * 3600.0

ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",  # needrestart(1): nqr's transaction restarts no services of others
    "UCF_FORCE_CONFFOLD": "1",  # ucf(1): an edited configuration file stays
}

_KEEPS_UNUSED = ("-o", "APT::Get::AutomaticRemove=false")
"""A host may have that on, for packages that nothing needs any more. apt refuses it together with --no-remove."""
_OPTIONS = (
    "-y",
    "-q",
    "--no-remove",  # no package of the administrator's makes way
    *_KEEPS_UNUSED,
    "-o",
    f"DPkg::Lock::Timeout={LOCK_SECONDS}",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Use-Pty=0",
    "-o",
    "Acquire::Retries=3",
)
_LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
_LISTS = "/var/lib/apt/lists"
_BY_NAME = {"postgresql-client"}
"""Each postgresql-client-NN provides it. An old one cannot dump a newer server."""
_SUMMARY = re.compile(r"(?:^|\s)(\d+) newly installed")
_DONE = ("installed", "config-files", "not-installed")
_QUERY = "${db:Status-Status}\\t${Package}\\t${binary:Package}\\t${Version}\\t${Provides}\\n"


@dataclass(frozen=True)
class Row:
    """A line of the dpkg database. `full` is ${binary:Package}: with the architecture unless it is implied. `provides`: the
    names that it stands for."""

    status: str
    name: str
    full: str
    version: str
    provides: tuple[str, ...] = ()


POLICY_RC_D = StartPolicy(
    "/usr/sbin/policy-rc.d",
    f"#!/bin/sh\n# {product.PRODUCT}: nothing is started while packages are being installed.\nexit 101\n".encode(),
    0o755,
)


SIGNS = Signs(
    telling=("E:", "dpkg: error"),
    unknown=("Unable to locate package", "no installation candidate"),
    unreached=("Failed to fetch", "Could not resolve", "Could not connect", "Connection failed"),
    full=("No space left on device", "enough free space"),
    labels=("E: ",),
)


@dataclass(frozen=True)
class Apt:
    name: str = "apt"
    start_policy: StartPolicy | None = POLICY_RC_D
    signs: Signs = SIGNS
    folder: str = ""
    """A folder with a repository (`collecting`), the only source of packages; "" for the sources of the host."""

    def of_folder(self, folder: str) -> Apt:
        return replace(self, folder=folder)

    def installed(self, host: Host) -> dict[str, str]:
        rows = [row for row in _rows(host) if row.status == "installed"]
        provided = {name: row.version for row in rows for name in row.provides if name not in _BY_NAME}
        return provided | {row.name: row.version for row in rows}

    def recorded(self, host: Host) -> list[str]:
        return sorted(row.full for row in _rows(host) if row.status != "not-installed")

    def config_only(self, host: Host) -> list[str]:
        return sorted(row.full for row in _rows(host) if row.status == "config-files")

    def manual(self, host: Host) -> list[str]:
        return sorted(host.run(command("apt-mark", "showmanual")).stdout.split())

    def index_missing(self, host: Host, names: Sequence[str]) -> str | None:
        lists = [path for path in host.glob(f"{self._lists}/*") if "Packages" in path.rpartition("/")[2]]
        if not lists:
            return "there is no package index yet"
        if self.folder:  # it does not change
            return None
        stats = [stat for stat in map(host.stat, lists) if stat is not None]
        # Index files keep the mirror's time, but every update that changes something touches the folders.
        stats += [stat for stat in (host.stat(_LISTS), host.stat(f"{_LISTS}/partial")) if stat is not None]
        age = host.now() - max(stat.mtime_ns for stat in stats) / 1e9
        if age > INDEX_MAX_AGE:
            return f"the package index is {age / 3600:.0f} hours old"
        unknown = self._unknown(host, names)
        return f"the package index does not know {', '.join(unknown)}" if unknown else None

    def _unknown(self, host: Host, names: Sequence[str]) -> list[str]:
        found = set(host.run(self._apt("apt-cache", "pkgnames")).stdout.split())
        return sorted(set(names) - found)

    def refresh(self) -> Command:
        return self._apt("apt-get", "update", "-q", "-o", "Acquire::Retries=3", timeout=600)

    def would_bring(self, host: Host, names: Sequence[str]) -> list[str]:
        argv = ("apt-get", "--simulate", "-q", *_KEEPS_UNUSED, "--no-install-recommends", "install", *names)
        told = host.run(self._apt(*argv)).stdout
        if removed := sorted(set(_REMV.findall(told))):
            raise StepFailed(
                "NQR-DEP-110",
                f"apt would remove {' and '.join(removed)} from this host to install {', '.join(names)}.",
                "Decide which of them this host needs: remove the others yourself, then run the same command again.",
            )
        return parse_simulation(told)

    def install(self, names: Sequence[str]) -> Command:
        argv = ("apt-get", "install", *_OPTIONS, "--no-install-recommends", *names)
        return self._apt(*argv, timeout=LOCK_SECONDS + 3600)

    @property
    def _lists(self) -> str:
        return f"{self.folder}/{INDEX}" if self.folder else _LISTS

    def _apt(self, program: str, *rest: str, timeout: float = 60.0) -> Command:
        """Return a command that knows only the packages in `folder`, if there is one. Options of the command line win over each
        configuration file of the host."""
        return command(program, *(only(self.folder) if self.folder else ()), *rest, env=ENVIRONMENT, timeout=timeout)

    def trust(self, cmd: Command, file: str) -> Command:
        if cmd.argv[0] != "apt-get":
            return cmd
        return replace(cmd, argv=(cmd.argv[0], *trusted(file), *cmd.argv[1:]))

    def interrupted(self, host: Host) -> bool:
        if any(name.isdigit() for name in host.listdir("/var/lib/dpkg/updates")):
            return True
        return bool(host.run(command("dpkg", "--audit", ok=(0, 1))).stdout.strip())

    def repair(self, host: Host) -> tuple[Command, ...]:
        torn_clusters.remove(host, {row.name for row in _rows(host) if row.status not in _DONE})
        return (
            command(
                "dpkg",
                "--force-confold",
                "--force-confdef",
                "--configure",
                "-a",
                env=ENVIRONMENT,
                ok=(0, 1),
                timeout=1800,
            ),
            self._apt("apt-get", "install", *_OPTIONS, "--no-install-recommends", "--fix-broken", timeout=3600),
        )

    def lock_holder(self, host: Host) -> str | None:
        for path in _LOCKS:
            for pid in locks.holders(host, path):
                return f"{_process_name(host, pid)} (pid {pid})"
        return None

    def outdated_index(self, error: CommandFailed) -> bool:
        text = error.stderr + error.stdout
        return any(sign in text for sign in ("Unable to locate package", "has no installation candidate", "404  Not Found"))

    def lock_refused(self, error: CommandFailed) -> bool:
        text = error.stderr + error.stdout
        return "Could not get lock" in text or "is locked by another process" in text or "Unable to lock" in text

    def parse_output(self, line: str) -> OutputLine:
        text = line.strip()
        if text.startswith(("Unpacking ", "Setting up ")):
            return OutputLine(text.split(" (", 1)[0], share=0.5)  # each package is unpacked once and set up once
        if text.startswith("Get:"):
            return OutputLine(text.split(" (", 1)[0])
        summary = _SUMMARY.search(text)
        return OutputLine(announced=int(summary[1])) if summary else OutputLine()


def _rows(host: Host) -> list[Row]:
    return parse_rows(host.run(command("dpkg-query", "-W", "-f", _QUERY)).stdout)


def parse_rows(text: str) -> list[Row]:
    """Parse rows of `dpkg-query -W -f …`, and ignore lines of another form."""
    rows = (fields for line in text.splitlines() if len(fields := line.split("\t")) == 5)
    return [Row(status, name, full, version, _names(provides)) for status, name, full, version, provides in rows]


def _names(provides: str) -> tuple[str, ...]:
    """Return the names of a field such as `a, b (= 2.89-1)`."""
    return tuple(one.split()[0] for one in provides.split(",") if one.strip())


_REMV = re.compile(r"^Remv (\S+)", re.MULTILINE)
_INST = re.compile(r"^Inst (\S+) \(.* \[([a-z0-9-]+)\]\)", re.MULTILINE)  # “[old version]” marks an upgrade


def parse_simulation(text: str) -> list[str]:
    """Return names that `apt-get --simulate install` would unpack, each plain and with its architecture. dpkg adds `:arch`
    only for "Multi-Arch: same", which the simulation does not show."""
    names: set[str] = set()
    for name, arch in _INST.findall(text):
        plain = name.partition(":")[0]
        names |= {name, f"{plain}:{arch}"}
    return sorted(names)


def _process_name(host: Host, pid: int) -> str:
    try:
        return host.read_text(f"/proc/{pid}/comm").strip() or "a program"
    except HostError:
        return "a program"

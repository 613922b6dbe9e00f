"""Red Hat's package manager: dnf(8), rpm(8)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Command, Host, command
from nqrust.installer.verbs.packages.manager import OutputLine, Signs, StartPolicy, trusting

_LOCKS = ("/var/lib/dnf/rpmdb_lock.pid", "/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid")
_LOCK_FAILED = 200  # exit code, dnf(8)

SIGNS = Signs(
    telling=("Error",),
    unknown=("No match for argument",),
    unreached=("Failed to download", "Cannot download", "Error downloading packages"),
    full=("No space left on device", "more space needed on the"),
    labels=("Error: ",),
)


@dataclass(frozen=True)
class Dnf:
    """The step's part for dnf, which refreshes expired metadata and waits for its lock. Package scripts do not start services
    (systemd presets decide)."""

    name: str = "dnf"
    start_policy: StartPolicy | None = None
    signs: Signs = SIGNS

    def of_folder(self, folder: str) -> Dnf:
        raise NotImplementedError("no bundle is built for this package manager")

    def installed(self, host: Host) -> dict[str, str]:
        out = host.run(command("rpm", "-qa", "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\n")).stdout
        return {name: version for name, _, version in (line.partition("\t") for line in out.splitlines()) if name}

    def recorded(self, host: Host) -> list[str]:
        return sorted(self.installed(host))

    def config_only(self, host: Host) -> list[str]:
        return []  # rpm knows no such state

    def manual(self, host: Host) -> list[str]:
        out = host.run(
            command("dnf", "-q", "--disablerepo=*", "repoquery", "--userinstalled", "--qf", "%{name}\\n", timeout=300)
        ).stdout  # this query needs no network
        return sorted(set(out.split()))

    def index_missing(self, host: Host, names: Sequence[str]) -> str | None:
        return None

    def refresh(self) -> Command:
        return command("dnf", "-y", "-q", "makecache", timeout=600)

    def would_bring(self, host: Host, names: Sequence[str]) -> list[str]:
        argv = ("dnf", "install", "--assumeno", "--setopt=install_weak_deps=False", *names)
        done = host.run(trusting(host, self, command(*argv, ok=(0, 1), timeout=600)))
        found = parse_transaction(done.stdout)
        if not found and "Nothing to do" not in done.stdout:
            raise CommandFailed(argv, done.code, done.stderr, done.stdout)
        return found

    def install(self, names: Sequence[str]) -> Command:
        return command("dnf", "install", "-y", "--setopt=install_weak_deps=False", *names, timeout=3600)

    def trust(self, cmd: Command, file: str) -> Command:
        return replace(cmd, argv=(cmd.argv[0], f"--setopt=sslcacert={file}", *cmd.argv[1:]))

    def interrupted(self, host: Host) -> bool:
        return False  # an interrupted transaction does not block the next one, which completes it

    def repair(self, host: Host) -> tuple[Command, ...]:
        return ()

    def lock_holder(self, host: Host) -> str | None:
        for path in _LOCKS:
            try:
                pid = host.read_text(path).strip()
            except HostError:
                continue
            if pid.isdigit() and host.exists(f"/proc/{pid}"):
                return f"dnf (pid {pid})"
        return None

    def outdated_index(self, error: CommandFailed) -> bool:
        text = error.stderr + error.stdout
        return "No match for argument" in text or "Status code: 404" in text

    def lock_refused(self, error: CommandFailed) -> bool:
        return error.code == _LOCK_FAILED

    def parse_output(self, line: str) -> OutputLine:
        text = line.strip()
        shown = text.startswith(("Installing  :", "Installing       :", "Downloading Packages"))
        return OutputLine(" ".join(text.split()[:3]) if shown else None)


_ROW = re.compile(r" (\S+)")  # a value too long for its column continues in the next line, indented


def parse_transaction(text: str) -> list[str]:
    """Return package names in the "Installing" tables of dnf's transaction summary."""
    names, inside = set(), False
    for line in text.splitlines():
        row = _ROW.match(line)
        if line.startswith(("Installing:", "Installing dependencies:", "Installing weak dependencies:")):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside and row:
            names.add(row[1])
    return sorted(names)

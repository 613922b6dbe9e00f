"""A service, described independently of any supervisor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Hardening(str, Enum):
    """A service's access to the machine."""

    none = "none"
    strict = "strict"  # no privilege but `capabilities`, writes only where `read_write` says
    sudo = "sudo"  # like strict, but it may become root through sudo, which rules out "no new privileges"
    host = "host"  # works on the machine itself; what it starts outlives it, so no namespace of its own


class Restart(str, Enum):
    always = "always"
    on_failure = "on-failure"
    never = "no"


@dataclass(frozen=True)
class ServiceSpec:
    """A service. `name` without a suffix. `argv` starts with an absolute path. The supervisor reads `env_file` as root, in
    the form of systemd.exec(5) EnvironmentFile=, so its secrets never show in argv.

    `after`, `wants`, `requires`: names of our services (without suffix) or units of the system (with one).
    `order`: start order where the supervisor has no dependencies, low first. `oneshot`: runs to its end and
    then counts as active; `stop_argv` takes back what it did. `keeps_children`: what it started lives on when
    it stops.
    `capabilities`: names of capabilities(7) that a strict service may have. `read_write`: paths it writes to. `folders`: where
    the supervisor knows mounts, the service starts once these folders' file systems are mounted. `runtime_directory`: a name
    below /run that is its own. Seconds for `stop_seconds`. `compiles`: it turns code into machine code while it runs, so its
    memory is writable and executable.
    `memory_mib`: the most memory that the service may use.
    """

    name: str
    description: str
    argv: tuple[str, ...]
    user: str = "root"
    group: str = "root"
    supplementary_groups: tuple[str, ...] = ()
    env_file: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    after: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    order: int = 500
    restart: Restart = Restart.always
    oneshot: bool = False
    stop_argv: tuple[str, ...] = ()
    stop_signal: str = "TERM"
    stop_seconds: int = 30
    keeps_children: bool = False
    hardening: Hardening = Hardening.strict
    capabilities: tuple[str, ...] = ()
    read_write: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    runtime_directory: str | None = None
    working_directory: str = "/"
    compiles: bool = False
    memory_mib: int | None = None


@dataclass(frozen=True)
class ServiceState:
    """A service's state. `since`: start of activity in seconds since the epoch, None if unknown. `since_error`: by how much
    that may be wrong. `stale_file`: its file changed since the supervisor read it. `blocked`: an administrator prevents its
    start (masked). `text`: for people. `pid`: its main process, 0 if there is none or it is unknown."""

    known: bool = False
    enabled: bool = False
    active: bool = False
    failed: bool = False
    since: float | None = None
    since_error: float = 0.0
    stale_file: bool = False
    blocked: bool = False
    text: str = "not known"
    pid: int = 0

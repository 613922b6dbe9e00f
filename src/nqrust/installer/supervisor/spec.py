"""A service, described independently of any supervisor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Hardening(str, Enum):
    """A service's access to the machine."""

    none = "none"
    strict = "strict"  # no privileges; writes only to `read_write`
    sudo = "sudo"  # like strict, but may become root through sudo, which excludes "no new privileges"
    host = "host"  # works on the machine; its children outlive it, so it has no private namespace


class Restart(str, Enum):
    always = "always"
    on_failure = "on-failure"
    never = "no"


@dataclass(frozen=True)
class ServiceSpec:
    """A service. `name` without a suffix. `argv` starts with an absolute path. The supervisor reads `env_file` as root, in
    the form of systemd.exec(5) EnvironmentFile=, so its secrets never show in argv.

    `after`, `wants`, `requires`: names of nqr's services (without suffix) or of system units (with one). `order`: start order
    for supervisors without dependencies, low first. `oneshot`: runs to its end and then counts as active; `stop_argv` reverts
    its work. `keeps_children`: its children survive its stop. `read_write`: paths it writes to. `runtime_directory`: name of
    its folder below /run. `stop_seconds` in seconds.
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
    read_write: tuple[str, ...] = ()
    runtime_directory: str | None = None
    working_directory: str = "/"


@dataclass(frozen=True)
class ServiceState:
    """A service's state. `since`: start of activity in seconds since the epoch, None if unknown. `stale_file`: its file
    changed since the supervisor read it. `blocked`: an administrator prevents its start (masked). `text`: for people. `pid`:
    its main process, 0 if there is none or it is unknown."""

    known: bool = False
    enabled: bool = False
    active: bool = False
    failed: bool = False
    since: float | None = None
    stale_file: bool = False
    blocked: bool = False
    text: str = "not known"
    pid: int = 0

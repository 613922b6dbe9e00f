"""Scopes without systemd as PID 1: a detached session of processes that carry `NQRUST_SCOPE=fc-<id>`.

The agent finds them by that variable in /proc/*/environ, so it never mistakes a reused PID or a stale file for a VM. The
VMM's lock (see launch.py) is the mutex.
"""

from __future__ import annotations

import threading

from nqrust.agent.scopes import launch as launcher
from nqrust.agent.scopes import limits, procfs
from nqrust.agent.scopes.port import Launch, Scope
from nqrust.agent.settings import Settings
from nqrust.contract.names import SCOPE_PREFIX
from nqrust.host.port import Host, command

_JOIN = 'while [ "$1" != -- ]; do echo $$ >"$1"; shift; done 2>/dev/null; shift; exec "$@"'
"""Joins the control groups named before `--`, then executes the command after it."""


class ProcessScopes:
    def __init__(self, host: Host, settings: Settings) -> None:
        self._host, self._settings = host, settings
        self._groups = threading.Lock()

    def all(self) -> dict[str, Scope]:
        return procfs.scan(self._host, self._identify)

    def get(self, vm_id: str) -> Scope | None:
        return self.all().get(vm_id)

    def spawn(self, launch: Launch) -> None:
        with self._groups:  # an empty group must not be removed before it is joined
            groups = limits.make_groups(self._host, launch.name, launch.limits) if launch.limits else []
            self._host.run(
                command(
                    "sh",
                    "-c",
                    _JOIN,
                    "sh",
                    *groups,
                    "--",
                    "setsid",
                    *launcher.argv(launch, self._settings),
                    env=launcher.environment(launch.name, self._settings),
                    timeout=30,
                )
            )

    def kill(self, vm_id: str, signal: int) -> None:
        scope = self.get(vm_id)
        for process in scope.processes if scope else ():
            self._host.kill(process.pid, signal)

    def tidy(self) -> None:
        with self._groups:
            limits.remove_empty_groups(self._host, SCOPE_PREFIX)

    def _identify(self, host: Host, process: str) -> str | None:
        return procfs.scope_of_environ(host.read_bytes(f"{process}/environ"), self._settings.run_dir)

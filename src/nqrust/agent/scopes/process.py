"""Scopes without systemd as PID 1: a detached session of processes that carry `NQRUST_SCOPE=fc-<id>`.

The agent finds them by the VM's user, and the launcher, which is root's, by that variable in /proc/PID/environ. So it never
mistakes a reused PID or a stale file for a VM. The launcher's lock (see launch.py) is the mutex.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from signal import SIGKILL

from nqrust.agent import users
from nqrust.agent.scopes import launch as launcher
from nqrust.agent.scopes import limits, procfs, quick
from nqrust.agent.scopes.port import Launch, Scope
from nqrust.agent.settings import Settings
from nqrust.contract.names import SCOPE_PREFIX, scope_name
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host, command

_JOIN = 'while [ "$1" != -- ]; do echo $$ >"$1"; shift; done 2>/dev/null; shift; exec "$@"'
"""Joins the control groups named before `--`, then executes the command after it."""


class ProcessScopes:
    def __init__(self, host: Host, settings: Settings) -> None:
        self._host, self._settings = host, settings
        self._groups = threading.Lock()

    def all(self) -> dict[str, Scope]:
        owners = self._owners()
        return procfs.scan(self._host, lambda host, process: self._identify(host, process, owners))

    def get(self, vm_id: str) -> Scope | None:
        return self.all().get(vm_id)

    def seen(self, vm_id: str) -> Scope | None:
        directory = self._settings.vm_dir(vm_id)
        user, pids = quick.owner(self._host, directory), quick.pids(self._host, directory)
        if user is None or not pids or not quick.launched(directory):  # a copy of a running VM's folder names its user
            return None
        owners = {user: scope_name(vm_id)}
        scope = procfs.scan(self._host, lambda host, process: self._identify(host, process, owners), pids).get(vm_id)
        return scope if scope and scope.vmm else None

    def vacant(self, vm_id: str) -> bool:
        return quick.vacant(self._host, self._settings.vm_dir(vm_id))

    def spawn(self, launch: Launch) -> None:
        with self._groups:  # an empty group must not be removed before it is joined
            groups = limits.make_groups(self._host, launch.name, launch.limits) if launch.limits else []
            join = ("sh", "-c", _JOIN, "sh", *groups, "--") if groups else ()
            self._host.run(
                command(
                    *join,
                    *launcher.argv(launch, self._settings),
                    env=launcher.environment(launch, self._settings),
                    timeout=30,
                )
            )

    def kill(self, vm_id: str, signal: int) -> None:
        scope = self.get(vm_id)
        if scope and signal == SIGKILL and limits.kill_group(self._host, scope.processes[0].pid, scope.name):
            return
        for process in scope.processes if scope else ():
            self._host.kill(process.pid, signal)

    def tidy(self) -> None:
        with self._groups:
            limits.remove_empty_groups(self._host, SCOPE_PREFIX)

    def _owners(self) -> dict[int, str]:
        """User of a VM -> name of its scope. The group of a VM's folder is its user. A copy of such a folder names it, too: the
        user is then of the one that was launched."""
        vms = self._settings.vms_dir
        try:
            found = {vm_id: self._host.stat(f"{vms}/{vm_id}") for vm_id in self._host.listdir(vms)}
        except PathMissing:
            return {}
        owners: dict[int, str] = {}
        for vm_id, folder in found.items():
            if folder is None or not users.is_vm_user(folder.gid):
                continue
            if folder.gid not in owners or quick.launched(f"{vms}/{vm_id}"):
                owners[folder.gid] = scope_name(vm_id)
        return owners

    def _identify(self, host: Host, process: str, owners: Mapping[int, str]) -> str | None:
        """By its user, or if root runs it by its environment. A VM's program can give itself any environment: of any length, and
        in memory that never answers."""
        if not users.is_roots(host, process):
            return owners.get(users.of_process(host, process))
        found = procfs.scope_of_environ(host.read_bytes(f"{process}/environ", procfs.LARGEST), self._settings.run_dir)
        if found and procfs.gained_privileges(host.read_bytes(f"{process}/auxv", procfs.LARGEST)):
            return None  # a program such as su(1), which any user of the host may start with any environment
        return found

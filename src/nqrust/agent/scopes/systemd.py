"""Scopes under systemd: `fc-<id>.scope`, a transient unit outside the agent's own cgroup. systemd-run(1).

systemd refuses a second unit of the same name, so the unit is the mutex. Its cgroup holds the processes.
"""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGKILL

from nqrust.agent.scopes import launch as launcher
from nqrust.agent.scopes import limits, procfs, quick
from nqrust.agent.scopes.port import Launch, Scope
from nqrust.agent.settings import Settings
from nqrust.contract.names import AGENT_UNIT, VM_SLICES, scope_name
from nqrust.host.port import Host, command

_OUTLIVES_THE_AGENT = ("--property", f"Before={AGENT_UNIT}")
"""At host shutdown the agent stops first. Otherwise it would report VMs that the shutdown ended as dead, and the manager

would act on that.

This sets the order only: the agent's own stop and start touch no scope. systemd.unit(5).
"""


class SystemdScopes:
    def __init__(self, host: Host, settings: Settings) -> None:
        self._host, self._settings = host, settings

    def all(self) -> dict[str, Scope]:
        return procfs.scan(self._host, self._identify())

    def get(self, vm_id: str) -> Scope | None:
        return self.all().get(vm_id)

    def seen(self, vm_id: str) -> Scope | None:
        pids = quick.pids(self._host, self._settings.vm_dir(vm_id))
        scope = procfs.scan(self._host, self._identify(), pids).get(vm_id) if pids else None
        return scope if scope and scope.vmm else None

    def vacant(self, vm_id: str) -> bool:
        return quick.vacant(self._host, self._settings.vm_dir(vm_id))

    def spawn(self, launch: Launch) -> None:
        self._host.run(
            command(
                "systemd-run",
                "--scope",
                "--collect",
                "--quiet",
                "--unit",
                launch.name,
                "--description",
                launch.description,
                "--slice",
                VM_SLICES[0],
                *_OUTLIVES_THE_AGENT,
                *limits.properties(launch.limits),
                "--",
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
        if scope is None:  # a failed or empty unit would keep the name taken
            self._host.run(command("systemctl", "reset-failed", f"{scope_name(vm_id)}.scope", ok=(0, 1, 5), timeout=30))

    def tidy(self) -> None:
        pass  # `--collect`: systemd removes it

    def _identify(self) -> Callable[[Host, str], str | None]:
        tops = procfs.tops_of(self._host.read_text("/proc/1/cgroup"))
        return lambda host, process: procfs.scope_of_cgroup(host.read_text(f"{process}/cgroup"), tops)

"""The regular upkeep of the running agent. One step that fails keeps no other from its work."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

import structlog

from nqrust.agent.api.app import Verbs
from nqrust.agent.errors import AgentError
from nqrust.agent.network.changes import APART, RuleChanges
from nqrust.agent.network.relay_port import RelayPort
from nqrust.agent.network.rules import NetworkRules
from nqrust.agent.network.taps import Filter
from nqrust.agent.vmm.verdict import Verdict
from nqrust.agent.vms import room, upkeep
from nqrust.agent.vms.service import VmService
from nqrust.agent.vms.turns import Turns
from nqrust.host.errors import HostError

log = structlog.get_logger("nqrust.agent")

_AT_ONCE, _LONGEST_ROUND = 16, 10.0  # VMs that are asked whether they wait for room, and seconds


class KeepUp:
    """`announce` tells the manager that the host has changed."""

    def __init__(
        self,
        service: VmService,
        verbs: Verbs,
        rules: NetworkRules,
        sources: Filter,
        relay: RelayPort,
        announce: Callable[[], None],
    ) -> None:
        self._service, self._verbs, self._rules, self._sources, self._announce = service, verbs, rules, sources, announce
        self._relay = relay
        self._verdict: Verdict | None = None
        self._lacking: dict[str, str] = {}
        # VMMs that a guest took over keep their threads waiting: no request waits for these, and no VM for all of those.
        self._continued, self._threads = Turns(_AT_ONCE, _LONGEST_ROUND), Verbs(threads=_AT_ONCE)
        self._drawing = asyncio.Lock()  # the script looks for a jump before it adds one
        self.steps: tuple[Callable[[], Awaitable[None]], ...] = (
            self.seal_jails,
            self.thaw_vms,
            self.make_room,
            self.continue_vms,
            self.remove_consoles,
            self.tidy_scopes,
            self.give_leases_back,
            self.keep_rules,
            self.keep_relay,
            self.draw_forwards,
            self.connect_vms,
            self.remove_taps,
            self.watch_the_vmm,
            self.pin_taps,
            self.watch_the_sources,
        )

    async def run(self) -> None:
        while True:
            for step in self.steps:
                await self._try(step.__name__, step)
            await asyncio.sleep(upkeep.EVERY)

    async def follow_rules(self) -> None:
        """Put rules back as soon as another program takes them out."""
        try:
            changes = RuleChanges()
        except OSError as error:
            log.info("network.rules_not_followed", why=str(error))
            return
        with changes:
            while True:
                await changes.wait()
                for step in (self.keep_rules, self.keep_relay, self.draw_forwards, self.pin_taps):
                    await self._try(step.__name__, step)
                await asyncio.sleep(APART)

    async def seal_jails(self) -> None:
        for vm_id in await self._verbs.run(lambda: upkeep.open_jails(self._service)):
            await self._try("seal_jails", functools.partial(self._seal, vm_id))

    async def _seal(self, vm_id: str) -> None:
        if await self._verbs.on_idle_vm(vm_id, functools.partial(upkeep.seal_jail, self._service, vm_id)):
            log.warning("jail.sealed", vm=vm_id, why="an agent that ended had left a folder to the VM's user")

    async def thaw_vms(self) -> None:
        async def thaw(vm_id: str) -> None:
            await self._try("thaw_vms", functools.partial(self._thaw, vm_id))

        await self._continued.round(await self._verbs.run(lambda: room.frozen(self._service)), thaw)

    async def _thaw(self, vm_id: str) -> None:
        if await self._verbs.on_idle_vm(vm_id, functools.partial(room.thaw, self._service, vm_id), self._threads):
            log.warning("vm.continued", vm=vm_id, why="an agent that ended had paused it for a snapshot")

    async def make_room(self) -> None:
        await self._verbs.run(self._service.blobs.make_room)

    async def continue_vms(self) -> None:
        async def go_on(vm_id: str) -> None:
            await self._try("continue_vms", functools.partial(self._continue, vm_id))

        await self._continued.round(await self._verbs.run(lambda: room.may_wait(self._service)), go_on)

    async def _continue(self, vm_id: str) -> None:
        work = functools.partial(room.go_on, self._service, vm_id)
        if await self._verbs.on_idle_vm(vm_id, work, self._threads):
            log.info("vm.continued", vm=vm_id, why="the disk has room again")

    async def remove_consoles(self) -> None:
        for user in await self._verbs.run(lambda: upkeep.dead_consoles(self._service)):
            work = functools.partial(upkeep.remove_console, self._service, user)
            await self._try("remove_consoles", functools.partial(self._verbs.run, work))

    async def tidy_scopes(self) -> None:
        await self._verbs.run(self._service.scopes.tidy)

    async def give_leases_back(self) -> None:
        for lease in await self._verbs.run(self._service.dhcp.give_back_lost):
            log.info("lease.given_back", mac=lease.mac, ip=lease.ip)

    async def keep_rules(self) -> None:
        async with self._drawing:
            restored = await self._verbs.run(self._rules.keep)
        if restored:
            log.warning("network.rules_put_back")

    async def keep_relay(self) -> None:
        if await self._verbs.run(self._relay.sync):
            log.info("relay.port_kept")
        self._warn("relay.port_not_kept", self._relay.lacking)

    async def draw_forwards(self) -> None:
        if await self._verbs.run(self._service.forwards.sync):
            log.info("forwards.drawn")
        self._warn("network.forwards_not_bound", self._service.forwards.lacking)
        self._warn("connections.not_ended", self._service.forwards.connections.lacking)

    async def connect_vms(self) -> None:
        for vm_id in await self._verbs.run(self._service.stranded):
            await self._try("connect_vms", functools.partial(self._connect, vm_id))

    async def _connect(self, vm_id: str) -> None:
        if await self._verbs.on_vm(vm_id, functools.partial(self._service.reconnect, vm_id)):
            log.info("vm.connected", vm=vm_id, why="its TAP was not on the bridge")

    async def remove_taps(self) -> None:
        for tap, vm_id in await self._verbs.run(lambda: upkeep.idle_taps(self._service)):
            work = functools.partial(upkeep.remove_idle_tap, self._service, tap, vm_id)
            await self._try("remove_taps", functools.partial(self._verbs.on_vm, vm_id, work))

    async def watch_the_vmm(self) -> None:
        now = await self._verbs.run(self._service.verdict)
        if self._verdict is not None and now != self._verdict:
            log.info("vmm.changed", **now.__dict__)
            self._announce()
        self._verdict = now

    async def pin_taps(self) -> None:
        for tap, reasons in (await self._verbs.run(self._service.taps.pin)).items():
            log.warning("tap.put_back", tap=tap, why="; ".join(reasons))
        self._warn("network.frames_not_finished", self._service.taps.detours.lacking)

    async def watch_the_sources(self) -> None:
        self._warn("network.sources_not_bound", self._sources.lacking)

    def _warn(self, event: str, lacking: str) -> None:
        """Log what the kernel lacks, each time that it changes."""
        if lacking != self._lacking.get(event, ""):
            self._lacking[event] = lacking
            log.warning(event, why=lacking)

    async def _try(self, step: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except (HostError, AgentError) as error:
            log.warning("upkeep.failed", step=step, why=str(error))
        except Exception:
            log.exception("upkeep.failed", step=step)

"""Hosts: their resources, their state, and whether they accept new VMs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient
from nqrust.contract.auth import JoinToken, Role
from nqrust.contract.hosts import Host, HostState
from nqrust.contract.text import argument
from nqrust.contract.vms import VmState
from nqrust.ui import format as fmt
from nqrust.ui import parts, session
from nqrust.ui.forms import FormDialog
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.pages import unknown_vms


@dataclass(frozen=True)
class Hosts:
    """`vcpus`: those of running VMs, by the host's name."""

    items: list[Host]
    vcpus: dict[str, int]


async def fetch_hosts(manager: AsyncManagerClient) -> Hosts:
    found, vms = await asyncio.gather(manager.send(calls.list_hosts()), manager.send(calls.list_vms()))
    vcpus: dict[str, int] = {}
    for vm in vms.items:
        if vm.host and vm.state in (VmState.running, VmState.starting, VmState.paused):
            vcpus[vm.host] = vcpus.get(vm.host, 0) + vm.vcpus
    return Hosts(found.items, vcpus)


@ui.page("/hosts")
def hosts(request: Request) -> RedirectResponse | None:
    me = entrance(request)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)
    may_act = me.may(Role.operator)

    async def refresh() -> None:
        await live.refresh()

    async def join() -> None:
        await _join(manager)

    def build(data: Hosts) -> Callable[[Hosts], None]:
        place = parts.box("cards wide")
        shown: dict[str, _Card] = {}

        def update(fresh: Hosts) -> None:
            present = {host.id for host in fresh.items}
            for gone in shown.keys() - present:
                shown.pop(gone).element.delete()
            with place:
                for host in fresh.items:
                    if host.id not in shown:
                        shown[host.id] = _Card(host, manager, refresh if may_act else None)
                    shown[host.id].show(host, fresh.vcpus.get(host.name, 0))

        update(data)
        return update

    with frame(me, "/hosts", "Hosts"):
        with head("Hosts"), parts.box("actions"):
            if may_act:
                parts.primary("Add host", join, icon="add")
        live = Live(
            lambda: fetch_hosts(manager),
            build,
            empty=lambda data: not data.items,
            every=3.0,
            when_empty=lambda: parts.nothing_yet(
                "memory",
                "No hosts yet",
                "A host is a machine with the agent. VMs run on hosts.",
                "Add host" if may_act else "",
                join if may_act else None,
            ),
        )
    return None


class _Card:
    """One host, updated in place."""

    def __init__(self, host: Host, manager: AsyncManagerClient, after: Callable[[], Awaitable[None]] | None) -> None:
        self._host, self._manager, self._after = host, manager, after
        self._bars: dict[str, tuple[parts.Bar, parts.Text]] = {}
        self.element = parts.box("card", "section").props(f'aria-label="Host {host.name}"')
        with self.element:
            with parts.box("row-between"):
                parts.text(host.name, "break", tag="h2")
                with parts.box("actions"):
                    self._cordoned = parts.Badge("cordoned")
                    self._state = parts.Badge(host.state.value)
            self._conflict = parts.Text(host.conflict, "p").classes("notice bad")
            for name in ("vCPUs", "Memory", "Disk"):
                with parts.box("full"):
                    with parts.box("row-between small"):
                        parts.text(name)
                        said = parts.text("", "muted", tag="span")
                    self._bars[name] = (parts.Bar(f"{name} of {host.name}", warns=name != "vCPUs"), said)
            self._facts = parts.facts(_describe(host))
            self._unknown = parts.box("full")
            self._told: list[tuple[str, str]] = []
            self._look = ui.link("", f"/vms?find={quote(host.name)}").classes("small")
            if after is not None:
                with parts.box("actions").style("margin-top: auto"):
                    self._cordon = parts.quiet("Cordon", self._ask_cordon)
                    self._uncordon = parts.quiet("Uncordon", self._do_uncordon)
                    self._drain = parts.quiet("Drain", self._ask_drain)
                    self._remove = parts.quiet("Remove", self._ask_remove).classes("danger")

    def show(self, host: Host, vcpus: int) -> None:
        self._host = host
        self._state.show("conflict" if host.conflict else host.state.value)
        self._conflict.say(host.conflict)
        self._conflict.set_visibility(bool(host.conflict))
        self._cordoned.set_visibility(host.cordoned)
        room = host.capacity
        used_memory, used_disk = room.memory_mib - room.memory_available_mib, room.disk_mib - room.disk_available_mib
        for name, part, whole, said in (
            ("vCPUs", vcpus, room.cpus, f"{vcpus} on {fmt.count(room.cpus, 'CPU')}"),
            ("Memory", used_memory, room.memory_mib, f"{fmt.mib(used_memory)} of {fmt.mib(room.memory_mib)}"),
            ("Disk", used_disk, room.disk_mib, f"{fmt.mib(used_disk)} of {fmt.mib(room.disk_mib)}"),
        ):
            self._bars[name][0].show(fmt.share(part, whole))
            self._bars[name][1].say(said)
        for name, value in _describe(host):
            self._facts[name].say(value)
        self._look.set_text(f"Show its {fmt.count(host.vms, 'VM')}")
        self._look.set_visibility(host.vms > 0)
        self._show_unknown(host)
        if self._after is not None:
            self._cordon.set_visibility(not host.cordoned)
            self._uncordon.set_visibility(host.cordoned)
            self._drain.set_visibility(host.vms > 0)
            self._remove.set_visibility(host.state is HostState.offline or host.vms == 0)

    def _show_unknown(self, host: Host) -> None:
        """Show VMs here without a record. Rebuilt only when they change."""
        told = [(vm.id, vm.state) for vm in host.unknown_vms]
        if told == self._told:
            return
        self._told = told
        self._unknown.clear()
        with self._unknown:
            if told:
                count = fmt.count(len(told), "VM")
                parts.notice(f"{count} without a record here. They run on until you decide.", icon="help")
            for vm in host.unknown_vms:
                with parts.box("row-between"):
                    parts.text(f"{vm.name or vm.id} ({vm.state}{f', {vm.ip}' if vm.ip else ''})", "break")
                    if self._after is not None:
                        with parts.box("actions"):
                            parts.quiet("Adopt", partial(unknown_vms.adopt, self._manager, vm, self._after))
                            parts.quiet("Delete", partial(unknown_vms.delete, self._manager, vm, self._after)).classes("danger")

    async def _ask_cordon(self) -> None:
        host = self._host
        if await parts.confirm(f"Cordon {host.name}?", "It takes no new VMs. Its running VMs continue.", "Cordon", danger=False):
            await self._do(self._manager.send(calls.cordon_host(host.id)), f"{host.name} takes no new VMs.")

    async def _do_uncordon(self) -> None:
        host = self._host
        await self._do(self._manager.send(calls.uncordon_host(host.id)), f"{host.name} takes new VMs again.")

    async def _ask_drain(self) -> None:
        host = self._host
        if await parts.confirm(
            f"Drain {host.name}?",
            f"It takes no new VMs, and its {fmt.count(host.vms, 'VM')} "
            "shut down. Disks do not move. Uncordon starts the VMs again.",
            "Drain",
        ):
            await self._do(self._manager.send(calls.drain_host(host.id)), f"{host.name} is draining.")

    async def _ask_remove(self) -> None:
        host = self._host
        if await parts.confirm(f"Remove {host.name}?", "The platform removes the host and its agent's credentials.", "Remove"):
            force = self._host.state is HostState.offline  # it may be back by now
            await self._do(self._manager.send(calls.delete_host(host.id, force)), f"{host.name} is removed.")

    async def _do(self, call: Awaitable[object], said: str) -> None:
        if self._after is not None:
            await parts.carry_out(call, said, self._after)


def _describe(host: Host) -> list[tuple[str, str]]:
    how = {"kvm": "hardware virtualization (KVM)", "tcg": "emulation (TCG): slow"}.get(host.accel, host.accel)
    network = host.network
    return [
        ("VMs run on", f"{host.vmm}, {how}"),
        ("VMs", str(host.vms)),
        ("Network", f"{network.bridge} {network.cidr} ({network.mode})".replace("  ", " ")),
        ("Agent", f"{host.version} at {host.url}"),
        ("Last seen", fmt.ago(host.last_seen_at)),
    ]


async def _join(manager: AsyncManagerClient) -> None:
    """Ask for the name of the host, then show its token and the command."""
    with FormDialog("Add a host") as form:
        name = ui.input("Name of the host", placeholder="kvm2").props("autocomplete=off autocapitalize=none")
        parts.text("Its hostname, or the name that you pass with --agent-name.", "muted small", tag="p")
        replace = ui.checkbox("Replace an existing host of that name")
        parts.text(
            "Only for a reinstalled machine: it takes over the record and the VMs of the old host.", "muted small", tag="p"
        )

    async def make() -> None:
        made = await manager.send(calls.join_token((name.value or "").strip(), replace=bool(replace.value)))
        with form.instead() as close:
            _show_token(made, close)

    form.open("Create token", make)


def _show_token(made: JoinToken, close: parts.Handler) -> None:
    base = urlsplit(session.manager_base())
    loopback = base.hostname in ("127.0.0.1", "localhost", "::1")
    address = f"{base.scheme}://{'MANAGER' if loopback else base.hostname}:{base.port}"
    parts.text(f"Add host {made.host}", tag="h2")
    parts.text(
        "On the new machine, save this token in a file that only root can read. Then run the installer. "
        "The agent can join once, within one hour.",
        "muted",
        tag="p",
    )
    parts.text(made.token, "secret mono")
    parts.text(
        f"nqr install --mode agent --manager-url {argument(address)} \\\n  --agent-name {argument(made.host)} --join-token-file ./join-token",
        "secret mono",
    )
    if loopback:
        parts.text("Replace MANAGER with the name or address of this machine.", "muted small", tag="p")
    with parts.box("buttons"):
        parts.quiet("Copy token", lambda: ui.clipboard.write(made.token), icon="content_copy")
        parts.primary("Done", close)

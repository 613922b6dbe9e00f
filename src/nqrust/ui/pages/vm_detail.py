"""One VM: its facts, state, console, shell and events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.contract.auth import Role
from nqrust.contract.events import EventList
from nqrust.contract.vms import Vm, Volume
from nqrust.ui import charts, history, parts, session
from nqrust.ui import format as fmt
from nqrust.ui.console import Console
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.pages.events import event_list, none_yet
from nqrust.ui.pages.vm_attachments import (
    Changes,
    ForwardsCard,
    RatesCard,
    VolumesCard,
    attach_volume,
    detach_volume,
    edit_forwards,
    edit_rates,
)
from nqrust.ui.pages.vm_fields import NETWORKS
from nqrust.ui.pages.vm_snapshots import Snapshots
from nqrust.ui.shell import Shell
from nqrust.ui.vm_actions import VmActions, possible

_VERBS = (
    ("start", "Start", "play_arrow"),
    ("resume", "Resume", "play_arrow"),
    ("pause", "Pause", "pause"),
    ("restart", "Restart", "restart_alt"),
    ("stop", "Stop", "stop"),
    ("force-stop", "Switch off", "power_settings_new"),
    ("delete", "Delete", "delete_outline"),
)


def describe(vm: Vm) -> list[tuple[str, str]]:
    """Return names and values of the facts card."""
    guest = vm.guest
    return [
        ("Address", vm.ip or "–"),
        ("Host", vm.host or "not placed yet"),
        ("Image", vm.image),
        ("Size", f"{fmt.count(vm.vcpus, 'vCPU')}, {fmt.mib(vm.memory_mib)} memory, {fmt.mib(vm.disk_mib)} disk"),
        ("Limits", _limits(vm)),
        ("Network", vm.network_written or NETWORKS[vm.network_config.value]),
        ("Guest agent", f"up {fmt.duration(guest.uptime_seconds)}" if guest and vm.guest_up_at else "has not reported yet"),
        ("Commands", "allowed" if vm.guest_exec else "off"),
        ("Gateway", _gateway(vm)),
        (
            "Restart",
            {"on-failure": "when it fails"}.get(vm.restart_policy.value, vm.restart_policy.value)
            + (", starts with its host" if vm.autostart else ""),
        ),
        ("Accounts", ", ".join(vm.users) or "those of the image"),
        ("Tags", ", ".join(vm.tags) or "–"),
        ("Created", fmt.clock(vm.created_at)),
        ("MAC", vm.mac),
        ("TAP", vm.tap),
        ("Boot", vm.boot_id or "–"),
        ("Id", vm.id),
    ]


def _limits(vm: Vm) -> str:
    """Return the limits that the host's kernel enforces on the VM and its VMM."""
    if vm.limits is None:
        return "–"
    memory, cpu, tasks = vm.limits.memory_mib, vm.limits.cpu_percent, vm.limits.tasks
    said = [
        f"{fmt.mib(memory)} memory" if memory else "",
        f"{fmt.share_of_cpus(cpu)}" if cpu else "",
        fmt.count(tasks, "task") if tasks else "",
    ]
    return ", ".join(part for part in said if part) or "–"


def _gateway(vm: Vm) -> str:
    if vm.guest is None or not vm.guest.gateway:
        return "–"
    reached = {True: "reached", False: "not reached", None: "not known whether it is reached"}[vm.guest.gateway_reachable]
    return f"{vm.guest.gateway}, {reached}"


@ui.page("/vms/{name}")
def vm_detail(request: Request, name: str) -> RedirectResponse | None:
    me = entrance(request)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)

    async def refresh() -> None:
        await live.refresh()

    async def fetch() -> Vm:
        vm = await manager.send(calls.get_vm(name))
        history.remember([vm])
        return vm

    async def fetch_events() -> EventList:
        return await manager.send(calls.vm_events(name))

    async def set_ports(vm: Vm) -> None:
        await edit_forwards(manager, vm, refresh)

    async def set_rates(vm: Vm) -> None:
        await edit_rates(manager, vm, refresh)

    async def attach(vm: Vm) -> None:
        await attach_volume(manager, vm, refresh)

    async def detach(vm: Vm, volume: Volume) -> None:
        await detach_volume(manager, vm, volume, refresh)

    actions = VmActions(manager, refresh, gone=lambda: ui.navigate.to("/vms"))
    changes = Changes(set_ports, set_rates, attach, detach) if me.may(Role.operator) else None
    with frame(me, "/vms", name):
        with parts.box("small"):
            ui.link("VMs", "/vms")
        with head(name):
            badge = parts.Badge()
            badge.set_visibility(False)
            buttons = _buttons(actions, lambda: live.data) if me.may(Role.operator) else {}

        def around(vm: Vm) -> None:
            badge.set_visibility(True)
            badge.show(vm.state.value)
            can = possible(vm)
            for verb, button in buttons.items():
                button.set_visibility(verb in can)

        with ui.tabs().props("align=left dense inline-label no-caps").classes("tabs full") as tabs:
            overview = ui.tab("Overview")
            terminal = ui.tab("Console")
            at_shell = ui.tab("Shell")
            snapshots = ui.tab("Snapshots")
            happened = ui.tab("Events")
        with ui.tab_panels(tabs, value=overview, animated=False, keep_alive=True).classes("full"):
            with ui.tab_panel(overview):
                live = Live(fetch, lambda vm: _overview(vm, around, changes))
            with ui.tab_panel(terminal):
                if me.may(Role.operator):
                    console = Console(manager, name)
                else:
                    parts.nothing_yet("terminal", "No access for viewers", "The console needs the role operator.")
            with ui.tab_panel(at_shell):
                if me.may(Role.operator):
                    shell = Shell(manager, name)
                else:
                    parts.nothing_yet("terminal", "No access for viewers", "The shell needs the role operator.")
            with ui.tab_panel(snapshots):
                Snapshots(manager, name, lambda: live.data, me.may(Role.operator))
            with ui.tab_panel(happened):
                Live(fetch_events, event_list(with_subject=False), empty=lambda data: not data.items, when_empty=none_yet)

        async def turned() -> None:
            if not me.may(Role.operator):
                return
            if tabs.value == "Console":
                await console.open()
            elif tabs.value == "Shell":
                await shell.open()

        tabs.on_value_change(turned)
    return None


def _buttons(actions: VmActions, shown: Callable[[], Vm | None]) -> dict[str, ui.button]:
    made: dict[str, ui.button] = {}

    async def on_shown(verb: Callable[[Vm], Awaitable[None]]) -> None:
        vm = shown()
        if vm is not None:
            await verb(vm)

    with parts.box("actions verbs"):
        for verb, label, icon in _VERBS:
            run = getattr(actions, verb.replace("-", "_"))
            button = parts.quiet(label, partial(on_shown, run), icon=icon)
            if verb == "delete":
                button.classes("danger")
            button.set_visibility(False)
            made[verb] = button
    return made


def _overview(vm: Vm, around: Callable[[Vm], None], changes: Changes | None) -> Callable[[Vm], None]:
    trouble = parts.text("", "notice bad").style("margin-bottom: 14px")
    with parts.box("split"):
        with parts.box("skeletons").style("gap: 14px"):
            waiting = parts.box("card")
            with waiting:
                parts.text("Guest metrics", tag="h2")
                parts.text("They appear when the guest agent reports.", "muted", tag="p")
            drawn = parts.box("skeletons").style("gap: 14px")
            with drawn:
                cpu = charts.Chart("Processor", ("busy",))
                memory = charts.Chart("Memory and disk", ("memory", "disk"))
                network = charts.Chart("Network", ("received", "sent"), percent=False)
        with parts.box("skeletons").style("gap: 14px"):
            with parts.box("card"):
                parts.text("Facts", tag="h2")
                values = parts.facts(describe(vm))
            forwards = ForwardsCard(changes.forwards if changes else None)
            volumes = VolumesCard(changes)
            rates = RatesCard(changes.rates if changes else None)
    seen: list[float] = []

    def update(fresh: Vm) -> None:
        around(fresh)
        trouble.say(fresh.error)
        trouble.set_visibility(bool(fresh.error))
        for title, value in describe(fresh):
            values[title].say(value)
        forwards.show(fresh)
        volumes.show(fresh)
        rates.show(fresh)
        samples = history.of(fresh)
        waiting.set_visibility(not samples)
        drawn.set_visibility(bool(samples))
        if samples and seen != [samples[0].at, samples[-1].at]:
            seen[:] = [samples[0].at, samples[-1].at]
            last = samples[-1]
            cpu.show(charts.points(samples, "cpu"), f"{last.cpu:.0f} % busy")
            memory.show(charts.points(samples, "memory", "disk"), f"{last.memory:.0f} % memory, {last.disk:.0f} % disk")
            network.show(charts.points(samples, "rx", "tx", divisor=1024), f"{fmt.size(last.rx)}/s in, {fmt.size(last.tx)}/s out")

    update(vm)
    return update

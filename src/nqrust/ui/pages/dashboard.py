"""The overview: running VMs, free resources, warnings, latest events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.contract.events import EventList
from nqrust.contract.hosts import Host, HostState
from nqrust.contract.images import Image
from nqrust.contract.vms import DesiredState, Vm, VmState
from nqrust.ui import format as fmt
from nqrust.ui import parts, session
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.pages.events import event_list, none_yet


@dataclass(frozen=True)
class Overview:
    vms: list[Vm]
    hosts: list[Host]
    images: list[Image]


def attention(data: Overview) -> list[tuple[str, str, str]]:
    """Return warnings for an operator: (tone, sentence, path)."""
    found: list[tuple[str, str, str]] = []
    for host in data.hosts:
        if host.conflict:
            found.append(("bad", host.conflict, "/hosts"))
        elif host.state is HostState.offline:
            found.append(("bad", f"Host {host.name} is offline; the state of its VMs is unknown.", "/hosts"))
        elif host.state is HostState.degraded:
            found.append(("", f"Host {host.name} was last seen {fmt.ago(host.last_seen_at)}.", "/hosts"))
    for vm in data.vms:
        if vm.state is VmState.failed:
            found.append(("bad", f"VM {vm.name} failed: {vm.error or 'no reason given'}", f"/vms/{vm.name}"))
        elif vm.state is VmState.stopped and vm.desired_state is DesiredState.running and vm.error:
            found.append(("bad", f"VM {vm.name} does not run: {vm.error}", f"/vms/{vm.name}"))
    for image in data.images:
        if image.state != "ready":
            found.append(("", f"Image {image.name} is {image.state}.", "/images"))
    slow = [host.name for host in data.hosts if host.accel == "tcg"]
    if slow:
        found.append(
            ("calm", f"VMs on {', '.join(slow)} run under emulation, many times slower: KVM does not work there.", "/hosts")
        )
    return found


def room(data: Overview) -> list[tuple[str, float, float, str]]:
    """Return usage of processors, memory and disk: (name, used, whole, sentence)."""
    hosts = [host for host in data.hosts if host.state is not HostState.offline]
    active = [vm for vm in data.vms if vm.state in (VmState.running, VmState.starting, VmState.paused)]
    cpus, vcpus = sum(h.capacity.cpus for h in hosts), sum(vm.vcpus for vm in active)
    memory = sum(h.capacity.memory_mib for h in hosts)
    memory_used = memory - sum(h.capacity.memory_available_mib for h in hosts)
    disk = sum(h.capacity.disk_mib for h in hosts)
    disk_used = disk - sum(h.capacity.disk_available_mib for h in hosts)
    return [
        ("Processors", vcpus, cpus, f"{fmt.count(vcpus, 'vCPU')} on {fmt.count(cpus, 'CPU')}"),
        ("Memory", memory_used, memory, f"{fmt.mib(memory_used)} of {fmt.mib(memory)}"),
        ("Disk", disk_used, disk, f"{fmt.mib(disk_used)} of {fmt.mib(disk)}"),
    ]


@ui.page("/")
def dashboard(request: Request) -> RedirectResponse | None:
    me = entrance(request)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)

    async def fetch() -> Overview:
        vms, hosts, images = await asyncio.gather(
            manager.send(calls.list_vms()), manager.send(calls.list_hosts()), manager.send(calls.list_images())
        )
        return Overview(vms.items, hosts.items, images.items)

    async def fetch_events() -> EventList:
        return await manager.send(calls.list_events(limit=12))

    with frame(me, "/", "Overview"):
        head("Overview")
        Live(fetch, _build, every=3.0)
        with parts.box("row-between"):
            parts.text("Latest events", tag="h2")
            ui.link("All events", "/events")
        Live(fetch_events, event_list(), empty=lambda data: not data.items, when_empty=none_yet, every=3.0)
    return None


def _build(data: Overview) -> Callable[[Overview], None]:
    numbers: dict[str, tuple[parts.Text, parts.Text, parts.Text]] = {}
    bars: dict[str, tuple[parts.Bar, parts.Text]] = {}
    notes = parts.box("skeletons").style("margin-bottom: 14px")
    told: list[list[tuple[str, str, str]]] = [[]]
    with parts.box("cards"):
        for name, path in (("VMs", "/vms"), ("Hosts", "/hosts"), ("Images", "/images")):
            with parts.box("card stat"):
                with parts.box("row-between"):
                    parts.text(name, tag="h2")
                    ui.link("Open", path).props(f'aria-label="Open {name}"')
                with parts.box(""):
                    number, of = parts.Text("", "span"), parts.Text("", "span")
                    number.classes("number")
                    of.classes("of")
                below = parts.Text("")
                below.classes("muted small")
                numbers[name] = (number, of, below)
        with parts.box("card"):
            parts.text("Capacity", tag="h2")
            for name, *_ in room(data):
                with parts.box("full"):
                    with parts.box("row-between small"):
                        parts.text(name)
                        said = parts.Text("", "span")
                        said.classes("muted")
                    bars[name] = (parts.Bar(name, warns=name != "Processors"), said)

    def update(fresh: Overview) -> None:
        for name, (count, of_text, sentence) in _counts(fresh).items():
            number, of, below = numbers[name]
            number.say(str(count))
            of.say(of_text)
            below.say(sentence)
        for name, used, whole, sentence in room(fresh):
            bars[name][0].show(fmt.share(used, whole))
            bars[name][1].say(sentence)
        found = attention(fresh)
        if found != told[0]:
            told[0] = found
            notes.clear()
            with notes:
                for tone, sentence, path in found[:5]:
                    with parts.notice(sentence, tone, "info" if tone == "calm" else "warning"):
                        ui.link("Show", path)
            notes.set_visibility(bool(found))

    notes.set_visibility(False)
    update(data)
    return update


def _counts(data: Overview) -> dict[str, tuple[int, str, str]]:
    running = sum(vm.state is VmState.running for vm in data.vms)
    up = sum(vm.state is VmState.running and vm.guest_up_at is not None for vm in data.vms)
    online = sum(host.state is HostState.online for host in data.hosts)
    cordoned = sum(host.cordoned for host in data.hosts)
    ready = sum(image.state == "ready" for image in data.images)
    return {
        "VMs": (running, f" of {len(data.vms)} running", f"{up} with a guest agent that reports"),
        "Hosts": (
            online,
            f" of {len(data.hosts)} online",
            f"{cordoned} cordoned" if cordoned else "all take new VMs" if online else "no host takes VMs",
        ),
        "Images": (ready, f" of {len(data.images)} ready", f"{fmt.size(sum(i.size for i in data.images))} on disk"),
    }

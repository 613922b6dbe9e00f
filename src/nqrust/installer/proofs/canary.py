"""The canary: a VM that nqr boots, watches until its guest agent reports, and removes."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nqrust.client.errors import AgentClientError, ClientError
from nqrust.contract import paths
from nqrust.contract.names import CANARY_PREFIX, canary_owner
from nqrust.host.children import Child, lives, this_process
from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.context import Context
from nqrust.installer.engine.events import Proof
from nqrust.installer.settings.model import NetworkMode

if TYPE_CHECKING:
    from nqrust.contract.vms import GuestReport

DEADLINE = 240.0
"""Seconds. A guest needs tens of seconds under emulation on a busy machine, one or two under KVM."""
PROOF_FILE = f"{paths.STATE_DIR}/proof.json"

_CURES = {
    "vmm": ("NQR-VER-006", "Look at `nqr logs agent`."),
    "tap": ("NQR-VER-007", "Check that /dev/net/tun works and that nothing takes TAPs off the bridge."),
    "guest": ("NQR-VER-008", "Read the last line of its console at the end of this message. Try again on a less busy machine."),
    "lease": ("NQR-VER-009", "Look at `nqr logs dhcp`, and check for another DHCP server on the bridge."),
    "gateway": (
        "NQR-VER-010",
        "Check the firewall: guests must reach the agent's relay on the gateway's address. In bridged mode, check the LAN's router.",
    ),
    "cleanup": ("NQR-VER-011", "Remove it with `nqr vm rm`."),
}


@dataclass(frozen=True)
class Seen:
    """The canary's current state. `state`: running, failed, or any earlier state. `here`: it runs on this host."""

    state: str
    error: str = ""
    tap: str = ""
    here: bool = True
    vmm: str = ""
    guest: GuestReport | None = None


class Bird(Protocol):
    """A way to run a canary. Methods raise ClientError or AgentClientError."""

    def start(self) -> None: ...

    def look(self) -> Seen: ...

    def console(self) -> str:
        """Return its serial output so far; empty if unavailable."""
        ...

    def remove(self) -> str:
        """Remove the canary at any stage. Return the obstacle, or an empty text."""
        ...

    def clear(self) -> str:
        """Remove canaries of killed nqr processes on this host. Return the obstacle, or an empty text."""
        ...


def name_of_mine() -> str:
    """Return a canary's name, which identifies its owner: the process that removes it."""
    me = this_process()
    return f"{CANARY_PREFIX}{me.pid}-{me.since}"


def forsaken(name: str, tags: Iterable[str]) -> bool:
    """Return whether a VM is a canary whose nqr process has ended."""
    owner = canary_owner(name, tags)
    return owner is not None and not lives(Child(*owner))


def cleared(host: Host, bird: Bird) -> Iterator[Proof]:
    """Yield a failed proof if a canary of a killed nqr cannot be removed; otherwise nothing."""
    began = host.monotonic()
    left = bird.clear()
    if left:
        yield _proof(host, began, "cleanup", "failed", f"an earlier canary is still there: {left}")


def fly(context: Context, host: Host, bird: Bird, progress: Callable[[str], None]) -> Iterator[Proof]:
    """Start, watch and remove a canary, and yield proofs as they come. A canary that stays is always reported."""
    began = host.monotonic()
    try:
        try:
            bird.start()
            yield from _watch(context, host, bird, began, progress)
        except (ClientError, AgentClientError, HostError) as error:
            yield _proof(host, began, "vmm", "failed", f"the canary could not be started or watched: {error}")
    finally:
        left = bird.remove()
    if left:
        yield _proof(host, began, "cleanup", "failed", f"the canary is still there: {left}")


def _proof(host: Host, began: float, hop: str, verdict: str, detail: str) -> Proof:
    code, cure = ("", "") if verdict == "passed" else _CURES[hop]
    return Proof(hop, verdict, detail, code, cure, host.monotonic() - began)


def _watch(context: Context, host: Host, bird: Bird, began: float, progress: Callable[[str], None]) -> Iterator[Proof]:
    running = False
    while host.monotonic() - began < DEADLINE:
        seen = bird.look()
        if seen.state == "failed":
            yield _proof(host, began, "guest" if running else "vmm", "failed", seen.error or "the VM failed")
            return
        if seen.state == "running" and not running:
            running = True
            yield _proof(host, began, "vmm", "passed", f"{seen.vmm} runs it")
            yield _tap(context, host, seen, began)
        if seen.guest is not None and seen.guest.boot_id:
            said = f"its guest agent reported after {host.monotonic() - began:.1f} s"
            yield _proof(host, began, "guest", "passed", said)
            yield _lease(context, host, seen.guest, began)
            yield _gateway(context, host, seen.guest, began)
            return
        progress("waiting for the canary's guest agent" if running else "starting the canary VM")
        host.sleep(0.5)
    lines = [line.strip() for line in bird.console().splitlines() if line.strip()]
    last = f"; its console ends with: {' / '.join(lines[-3:])[:300]}" if lines else ""
    silence = f"nothing was heard from it for {DEADLINE:.0f} s{last}"
    yield _proof(host, began, "guest" if running else "vmm", "failed", silence)


def _tap(context: Context, host: Host, seen: Seen, began: float) -> Proof:
    if not seen.here:
        return _proof(host, began, "tap", "unproven", "the canary runs on another host")
    device = f"/sys/class/net/{seen.tap}"
    if host.stat(device) is None:
        return _proof(host, began, "tap", "failed", f"{seen.tap} does not exist")
    bridge = host.readlink(f"{device}/master").rpartition("/")[2] if host.stat(f"{device}/master") else ""
    verdict = "passed" if bridge == context.settings.network.bridge_name else "failed"
    return _proof(host, began, "tap", verdict, f"{seen.tap} is on {bridge or 'no bridge'}")


def _lease(context: Context, host: Host, guest: GuestReport, began: float) -> Proof:
    network = context.settings.network
    try:
        address = ipaddress.IPv4Address(guest.ip)
    except ValueError:
        return _proof(host, began, "lease", "failed", f"the guest reports the address “{guest.ip}”")
    if network.mode is NetworkMode.bridged:
        return _proof(host, began, "lease", "passed", f"{guest.ip}, from the network's own DHCP")
    fits = ipaddress.IPv4Address(network.dhcp_first) <= address <= ipaddress.IPv4Address(network.dhcp_last)
    detail = f"{guest.ip}, range {network.dhcp_first}–{network.dhcp_last}"
    return _proof(host, began, "lease", "passed" if fits else "failed", detail)


def _gateway(context: Context, host: Host, guest: GuestReport, began: float) -> Proof:
    lan = context.settings.network.mode is NetworkMode.bridged
    if lan and guest.gateway and guest.gateway_reachable is None:
        # The guest agent says this of a gateway whose MAC it has: a router that drops connections to itself still answers ARP.
        return _proof(host, began, "gateway", "passed", f"guest -> {guest.gateway}, which answers ARP")
    if guest.gateway_reachable is None:
        return _proof(host, began, "gateway", "unproven", "the guest agent did not try")
    verdict = "passed" if guest.gateway_reachable else "failed"
    return _proof(host, began, "gateway", verdict, f"guest -> {guest.gateway or 'no gateway'}")


def described(vmm: str, accel: str) -> str:
    """Return text like `qemu under emulation (no KVM: slow)`, which always makes emulation obvious."""
    return f"{vmm} under {'KVM' if accel == 'kvm' else 'emulation (no KVM: slow)'}"


def depends_on(context: Context, verdict: str) -> dict[str, str]:
    """Return the inputs of a canary's proof. A re-run needs no new canary while they are unchanged."""
    network = context.settings.network
    span = f"{network.cidr} {network.dhcp_first} {network.dhcp_last}"
    return {
        "release": context.release.version,
        "kernel": context.facts.kernel.release,
        "boot_id": context.facts.kernel.boot_id,
        "network": f"{network.mode.value} {network.bridge_name} {span}",
        "vmm": verdict,
    }

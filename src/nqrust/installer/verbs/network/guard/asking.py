"""Answers for the operator and for a start of the machine: status, confirmation, and what a restart left undecided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed, UsageError
from nqrust.installer.verbs.network.guard import folder
from nqrust.installer.verbs.network.guard.folder import CONFIRM, SCRIPT, State
from nqrust.installer.verbs.network.guard.guarding import left, waiting_for


@dataclass(frozen=True)
class GuardStatus:
    """The guard for people and programs. `seconds_left`: until it fires, 0 if it is not armed. `missing`: gateways that do not
    answer. `peer`: the machine that connected. `waits`: whether the run that armed the guard still lives."""

    state: str = State.none.value
    link: str = ""
    bridge: str = ""
    window_seconds: int = 0
    seconds_left: int = 0
    gateways: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    peer: str = ""
    confirmed: bool = False
    waits: bool = False
    next: str = ""


def status(host: Host) -> GuardStatus:
    state, record, seen = folder.state(host), folder.read_record(host), folder.read_seen(host)
    if record is None or state is State.none:
        return GuardStatus(state.value)
    armed = state is State.armed
    waits = armed and bool(record.since) and folder.since(host, record.pid) == record.since
    return GuardStatus(
        state=state.value,
        link=record.link,
        bridge=record.bridge,
        window_seconds=record.window,
        seconds_left=round(left(host, record)) if armed else 0,
        gateways=record.gateways,
        missing=seen.missing if seen else record.gateways,
        peer=seen.peer if seen else "",
        confirmed=host.exists(CONFIRM),
        waits=waits,
        next=waiting_for(seen) if waits and seen else "",
    )


def confirm(host: Host, tell: Callable[[str], None] = lambda text: None) -> None:
    """Say that the new network is good, and wait for the decision. The gateways must answer all the same.

    Raises UsageError NQR-NET-143 if no run waits for it, StepFailed NQR-NET-146 if the guard fired.
    """
    now = status(host)
    if not now.waits:
        raise UsageError(
            "NQR-NET-143",
            "No run of nqr waits for a confirmation of a new network.",
            "Run `nqr network status`. A guard without its run puts the old network back.",
        )
    host.write_file(CONFIRM, b"", mode=0o600)
    said = ""
    while now.waits:
        host.sleep(0.2)
        now = status(host)
        if now.waits and now.missing and now.next != said:
            said = now.next
            tell(f"Confirmed. {said}")
    if now.state != State.none.value and now.state != State.disarmed.value:
        raise StepFailed(
            "NQR-NET-146",
            "The confirmation came too late, so the old network comes back.",
            "Run `nqr network status`, then start the change again.",
        )


def at_start(host: Host, timeout: float = 60.0) -> bool:
    """Put the old network back after a restart of a machine without systemd. Returns whether there was something to do.

    Run it before anything of the network starts. It does nothing while the guard's own process lives. Raises HostError.
    """
    if folder.state(host) not in folder.PENDING or not host.exists(SCRIPT):
        return False
    host.run(command("sh", SCRIPT, "start", timeout=timeout))
    return folder.state(host) not in folder.PENDING

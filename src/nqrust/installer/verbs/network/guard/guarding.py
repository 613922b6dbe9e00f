"""Make a change of the network under guard: arm, change, prove, disarm."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace

from nqrust.contract import paths
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.supervisor.alarm import Alarms
from nqrust.installer.verbs.network.guard import folder
from nqrust.installer.verbs.network.guard.arming import WINDOW, arm, disarm, forget, write_new_files
from nqrust.installer.verbs.network.guard.change import NetworkChange
from nqrust.installer.verbs.network.guard.folder import ALARM, CONFIRM, SCRIPT, Record, Seen, State
from nqrust.installer.verbs.network.guard.proofs import Connection, fresh_peer, inbound, silent_gateways

_EVERY = 1.0
"""Seconds between two looks at the gateways."""
_LOOK = 0.1
"""Seconds between two looks for a new connection. `ssh HOST true` has an established one for less than a second."""
_RESTORE_SECONDS = 90.0
"""How long nqr waits for the script, which tries again after a failure."""
_SHORTEST_LOAD = 3.0
_COMES_BACK = "Stopped: the old network of {} comes back now. The guard does this without nqr."
WITH_NQR = "nqr network confirm"


def guarded(
    host: Host,
    change: NetworkChange,
    alarms: Alarms,
    *,
    window: int = WINDOW,
    tell: Callable[[str], None] = lambda text: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Seen:
    """Make the change, and return what proved it. `window`: seconds in which the network is proven or back. `tell` gets what nqr
    waits for, once for each new state. Once `stopped` is true, the old network comes back without the rest of the wait.

    Raises StepFailed NQR-NET-140 (the old network is back), NQR-NET-144 (it is not back yet), and what `arm` raises.
    """
    record = arm(host, change, alarms, pid=os.getpid(), window=window)
    try:
        write_new_files(host, change)
        for argv in change.load:
            # A command that outlived the window could load the new files again after the old ones are back.
            host.run(command(*argv, timeout=max(_SHORTEST_LOAD, left(host, record) - 5)))
        # Connections until here may be older than the change.
        proven = _wait(host, change, alarms, record, inbound(host), tell, stopped)
    except HostError as error:
        _fire(host, alarms)
        raise _ended(
            host, change.link, alarms, f"the new configuration could not be applied ({str(error).rstrip('.')})"
        ) from error
    except StepFailed:
        raise
    except BaseException:
        _fire(host, alarms)
        _say(tell, _COMES_BACK.format(change.link))
        raise
    return proven


def give_up(host: Host, link: str, alarms: Alarms) -> None:
    """Put the old network back now if the guard is still armed, and wait for it. Raises StepFailed NQR-NET-144."""
    if folder.state(host) in folder.PENDING:
        _fire(host, alarms)
        ended = _ended(host, link, alarms, "nqr ended the change")
        if ended.code != "NQR-NET-140":
            raise ended


def left(host: Host, record: Record) -> float:
    """Return the seconds until the guard fires, on the monotonic clock."""
    return max(0.0, record.armed_at + record.fires_after - host.monotonic())


def _wait(
    host: Host,
    change: NetworkChange,
    alarms: Alarms,
    record: Record,
    before: frozenset[Connection],
    tell: Callable[[str], None],
    stopped: Callable[[], bool],
) -> Seen:
    devices = tuple(dict.fromkeys((change.bridge, change.link)))
    seen, said, kept = Seen(), "", None
    while folder.state(host) is State.armed:
        if stopped():
            _fire(host, alarms)
            _say(tell, _COMES_BACK.format(change.link))
            ended = _ended(host, change.link, alarms, "nqr was stopped")
            _say(tell, ended.what)
            raise ended
        seen = Seen(
            missing=silent_gateways(host, change.gateways, devices),
            peer=seen.peer or fresh_peer(host, before, devices),
            confirmed=host.exists(CONFIRM),
        )
        if seen != kept:
            folder.write_seen(host, seen)
            kept = seen
        if seen.proven and disarm(host, alarms):
            return seen
        text = waiting_for(seen, how_to_confirm(host))
        if text != said:
            _say(tell, f"{text} The old network of {change.link} comes back in {left(host, record):.0f} s otherwise.")
            said = text
        if seen.peer:
            host.sleep(_EVERY)
        else:
            seen = replace(seen, peer=_peer_meanwhile(host, before, devices))
    raise _ended(host, change.link, alarms, reason(seen))


def _peer_meanwhile(host: Host, before: frozenset[Connection], devices: tuple[str, ...]) -> str:
    """Wait for the next look at the gateways, and return the machine that connects meanwhile."""
    until, tried = host.monotonic() + _EVERY, before
    while host.monotonic() < until:
        host.sleep(_LOOK)
        now = inbound(host)
        if now - tried and (peer := fresh_peer(host, tried, devices)):
            return peer
        tried |= now
    return ""


def _say(tell: Callable[[str], None], text: str) -> None:
    # A terminal that is gone says nothing about the network.
    with contextlib.suppress(OSError):
        tell(text)


def how_to_confirm(host: Host) -> str:
    """Return root's command for another terminal. An uninstall that is repeated for the card alone finds no link to nqr."""
    return WITH_NQR if host.exists(paths.NQR_LINK) else f"touch {CONFIRM}"


def waiting_for(seen: Seen, confirm: str = WITH_NQR) -> str:
    """Return a sentence for people: what the new network still needs. `confirm`: the command that confirms it."""
    if seen.missing:
        return f"Waiting until gateway {', '.join(seen.missing)} answers."
    if not seen.peer and not seen.confirmed:
        return f"Waiting for a new connection from another machine. Connect with SSH, or run `{confirm}` as root."
    return "The new network is proven."


def reason(seen: Seen) -> str:
    """Return why a network counts as not proven, as part of a sentence."""
    if seen.missing:
        return f"gateway {', '.join(seen.missing)} does not answer"
    if not seen.peer and not seen.confirmed:
        return "no other machine connected, and nobody confirmed the new network"
    return "the proof came too late"


def _fire(host: Host, alarms: Alarms) -> None:
    """Ask for the old network now. If this fails, the alarm goes off later."""
    try:
        alarms.go_off(host, ALARM)
    except HostError:
        return


def _ended(host: Host, link: str, alarms: Alarms, why: str) -> StepFailed:
    """Wait for the script, and return the failure that tells its result."""
    deadline = host.monotonic() + _RESTORE_SECONDS
    record = folder.read_record(host)
    if record is not None and folder.state(host) is State.armed:
        deadline += left(host, record)
    while folder.state(host) in folder.PENDING and host.monotonic() < deadline:
        host.sleep(0.2)
    if folder.state(host) in folder.PENDING:
        return StepFailed(
            "NQR-NET-144",
            f"The old network of {link} is not back yet.",
            f"Read why with `{alarms.log_hint(ALARM)}`, then run `sh {SCRIPT} fire` as root.",
        )
    forget(host, alarms)
    return StepFailed(
        "NQR-NET-140",
        f"The old network of {link} is back: {why}.",
        "Check the network's settings and that a machine can connect to this host, then run the same command again.",
    )

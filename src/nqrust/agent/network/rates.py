"""Rate limits of a TAP, both ways, for VMMs that cannot limit it. tc-tbf(8), tc-mirred(8).

to the guest      a token bucket in front of the TAP
from the guest    packets from the TAP pass through its own IFB device (detours.py) with a token bucket in front: delayed like a
                  slow line, where a policer would drop.
"""

from __future__ import annotations

from nqrust.agent.errors import Failed
from nqrust.agent.network import detours
from nqrust.contract.names import ifb_name
from nqrust.contract.vms import RateLimits
from nqrust.host.errors import CommandFailed, CommandTimedOut, PathError
from nqrust.host.port import Host, command

_SMALLEST, _LARGEST = 32 << 10, 16 << 20  # bytes of a burst
_WAIT = "200ms"  # at most in the queue


def limit(host: Host, tap: str, alias: str, limits: RateLimits) -> None:
    """Apply `limits` to the TAP, or remove all limits. Raises Failed."""
    if host.which("tc") is None:
        if limits.limits_network:
            raise _cannot("there is no program tc")
        return
    try:
        clear(host, tap)
        if limits.net_rx_kbit is not None:
            host.run(command("tc", "qdisc", "replace", "dev", tap, "root", *bucket(limits.net_rx_kbit)))
        if limits.net_tx_kbit is not None:
            if not detours.needed(host, tap):
                detours.lead(host, tap, alias)
            host.run(command("tc", "qdisc", "replace", "dev", ifb_name(tap), "root", *bucket(limits.net_tx_kbit)))
    except (CommandFailed, CommandTimedOut, PathError) as error:
        clear(host, tap)
        raise _cannot(str(error)) from error


def clear(host: Host, tap: str) -> None:
    """Remove nqr's limits from the TAP. Missing ones are not an error."""
    if host.which("tc") is not None:
        host.run(command("tc", "qdisc", "delete", "dev", tap, "root", ok=(0, 1, 2)))
    if not detours.needed(host, tap):
        detours.straight_on(host, tap)
    elif host.which("tc") is not None:
        host.run(command("tc", "qdisc", "delete", "dev", ifb_name(tap), "root", ok=(0, 1, 2)))


def bucket(kbit: int) -> tuple[str, ...]:
    """Return a token bucket of `kbit` kilobits a second with a burst of 20 ms, for tc(8). Pure."""
    burst = min(_LARGEST, max(_SMALLEST, kbit * 125 // 50))
    return ("tbf", "rate", f"{kbit}kbit", "burst", str(burst), "latency", _WAIT)


def _cannot(why: str) -> Failed:
    return Failed(
        "NQR-NET-708",
        f"This host cannot limit the VM's network ({why}).",
        "Install tc(8) and the kernel modules for it (sch_tbf sch_ingress cls_u32 act_mirred ifb). Or remove the limits.",
        status=422,
    )

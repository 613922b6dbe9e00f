"""Rate limits of a TAP, both ways, for VMMs that cannot limit it. tc-tbf(8), tc-mirred(8).

to the guest      a token bucket in front of the TAP
from the guest    packets from the TAP pass through its own IFB device with a token bucket in front: delayed like a
                  slow line, where a policer would drop. The IFB is removed with the TAP.
"""

from __future__ import annotations

from nqrust.agent.errors import Failed
from nqrust.contract.vms import RateLimits
from nqrust.host.errors import CommandFailed, CommandTimedOut
from nqrust.host.port import Host, command

_NET = "/sys/class/net"
_INGRESS = "ffff:"
_SMALLEST, _LARGEST = 32 << 10, 16 << 20  # bytes of a burst
_WAIT = "200ms"  # at most in the queue


def ifb(tap: str) -> str:
    """Return the name of a TAP's IFB: as long, and as unique."""
    return f"ifb{tap.removeprefix('tap')}"


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
            _lead_round(host, tap, alias, limits.net_tx_kbit)
    except (CommandFailed, CommandTimedOut) as error:
        clear(host, tap)
        raise _cannot(str(error)) from error


def clear(host: Host, tap: str) -> None:
    """Remove nqr's limits from the TAP. Missing ones are not an error."""
    if host.which("tc") is not None:
        for place in ("root", "ingress"):
            host.run(command("tc", "qdisc", "delete", "dev", tap, place, ok=(0, 1, 2)))
    remove(host, tap)


def remove(host: Host, tap: str) -> None:
    """Remove the IFB of a TAP."""
    if host.exists(f"{_NET}/{ifb(tap)}"):
        host.run(command("ip", "link", "delete", "dev", ifb(tap), ok=(0, 1)))


def bucket(kbit: int) -> tuple[str, ...]:
    """Return a token bucket of `kbit` kilobits a second with a burst of 20 ms, for tc(8). Pure."""
    burst = min(_LARGEST, max(_SMALLEST, kbit * 125 // 50))
    return ("tbf", "rate", f"{kbit}kbit", "burst", str(burst), "latency", _WAIT)


def _lead_round(host: Host, tap: str, alias: str, kbit: int) -> None:
    if not host.exists("/sys/module/ifb") and host.which("modprobe") is not None:
        # By default the module would create two unused devices.
        host.run(command("modprobe", "ifb", "numifbs=0", ok=(0, 1)))
    device = ifb(tap)
    host.run(command("ip", "link", "add", "name", device, "type", "ifb"))
    host.run(command("ip", "link", "set", "dev", device, "alias", alias, "up"))
    host.run(command("tc", "qdisc", "replace", "dev", device, "root", *bucket(kbit)))
    host.run(command("tc", "qdisc", "add", "dev", tap, "handle", _INGRESS, "ingress"))
    host.run(
        command(
            "tc",
            "filter",
            "add",
            "dev",
            tap,
            "parent",
            _INGRESS,
            "protocol",
            "all",
            "u32",
            "match",
            "u32",
            "0",
            "0",
            "action",
            "mirred",
            "egress",
            "redirect",
            "dev",
            device,
        )
    )


def _cannot(why: str) -> Failed:
    return Failed(
        "NQR-NET-708",
        f"This host cannot limit the VM's network ({why}).",
        "Install tc(8) and the kernel modules for it (sch_tbf sch_ingress cls_u32 act_mirred ifb). Or remove the limits.",
        status=422,
    )

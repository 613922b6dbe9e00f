"""Frames of a TAP pass a device of its own, an IFB, before any rule sees them. tc-mirred(8), linux/virtio_net.h

A VMM that opens its TAP with a virtio-net header lets the guest leave work to the host. The guest names two bytes of a frame where
the host has to write a checksum, and has it divide one packet into many. The host does that on the way out, after all rules. So
the bytes that a rule saw may change, and what counted as one packet may be many.

The IFB can do none of that work. So the kernel does it before the frame comes back to the TAP, where the rules begin. Limits of a
TAP use the same device (rates.py). The IFB is removed with the TAP.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from nqrust.contract.names import TAP_ALIAS, ifb_name
from nqrust.contract.text import joined, word
from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Host, command
from nqrust.host.tun import has_header

_NET = "/sys/class/net"
_INGRESS = "ffff:"
_QUEUE = 1000  # frames; an IFB has 32 by default
_IFF_UP = 0x1


def needed(host: Host, tap: str) -> bool:
    """Return whether frames from the TAP come with a header. A VMM decides that when it opens the TAP."""
    return has_header(host, tap) is True


def lead(host: Host, tap: str, alias: str) -> None:
    """Lead frames from the TAP round its IFB. Raises a HostError."""
    device = ifb_name(word(tap))
    if not host.exists(f"{_NET}/{device}"):
        if not _known(host) and host.which("modprobe") is not None:
            # By default the module would create two unused devices.
            host.run(command("modprobe", "ifb", "numifbs=0", ok=(0, 1)))
        silent = [f"link set dev {device} addrgenmode none"] if host.exists("/proc/sys/net/ipv6") else []
        made = f"link add name {device} txqueuelen {_QUEUE} type ifb"
        _batch(host, "ip", [made, *silent, f"link set dev {device} alias {word(alias)} up"])
    elif not _is_up(host, device):
        _batch(host, "ip", [f"link set dev {device} up"])
    entrance = f"qdisc add dev {tap} handle {_INGRESS} ingress"
    back = f"action mirred egress redirect dev {device}"
    lines = [entrance, f"filter add dev {tap} parent {_INGRESS} protocol all u32 match u32 0 0 {back}"]
    try:
        _batch(host, "tc", lines)
    except CommandFailed:  # there is one already
        host.run(command("tc", "qdisc", "delete", "dev", tap, "ingress", ok=(0, 1, 2)))
        _batch(host, "tc", lines)


def straight_on(host: Host, tap: str) -> None:
    """Lead nothing round. Missing things are not an error."""
    if host.which("tc") is not None:
        host.run(command("tc", "qdisc", "delete", "dev", tap, "ingress", ok=(0, 1, 2)))
    remove(host, tap)


def remove(host: Host, tap: str) -> None:
    """Remove the IFB of a TAP. It may go at the same time by another look: ip(8) ends with 2 then, or with 1."""
    if host.exists(f"{_NET}/{ifb_name(tap)}"):
        host.run(command("ip", "link", "delete", "dev", ifb_name(tap), ok=(0, 1, 2)))


class Detours:
    """Of the TAPs whose frames have a header. `lacking`: why this host has them go straight on; empty if it does not. Two looks at the
    same time would take away each other's devices, so one waits."""

    def __init__(self, host: Host) -> None:
        self._host, self._lock = host, threading.Lock()
        self.lacking = ""

    def lead(self, tap: str, vm_id: str) -> None:
        """Call it before the TAP goes up. A VM starts without it, too."""
        with self._lock:
            if needed(self._host, tap):
                try:
                    self._lead(tap, vm_id)
                    self.lacking = ""
                except HostError as error:
                    self.lacking = str(error)

    def put_back(self, taps: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
        """Restore the detours of the VMs with these TAPs: name and VM. Return TAP -> what was wrong."""
        found: dict[str, tuple[str, ...]] = {}
        reasons: list[str] = []
        with self._lock:
            with_header = [(tap, vm_id) for tap, vm_id in taps if needed(self._host, tap)]
            led: set[str] | None = None
            for tap, vm_id in with_header:
                try:
                    led = self._led([name for name, _ in with_header]) if led is None else led
                    if wrong := self._wrong(tap, vm_id, led):
                        found[tap] = (wrong,)
                except HostError as error:
                    reasons.append(str(error))
                    if led is None or not _known(self._host):
                        break  # the others have the same trouble
            self.lacking = "; ".join(dict.fromkeys(reasons))
        return found

    def _wrong(self, tap: str, vm_id: str, led: Collection[str]) -> str:
        """Restore the detour of one TAP. Return what was wrong. Raises a HostError."""
        device = ifb_name(tap)
        if tap in led and _is_up(self._host, device):
            return f"{device} did not finish its frames" if self._worked(device) else ""
        return "its frames could change after the rules" if self._lead(tap, vm_id) else ""

    def _worked(self, device: str) -> bool:
        """Have the IFB leave its work to the kernel. Return whether it did some. It may go with its VM meanwhile."""
        try:
            return bool(self._host.leave_no_work(device))
        except HostError:
            if self._host.exists(f"{_NET}/{device}"):
                raise
            return False

    def _lead(self, tap: str, vm_id: str) -> bool:
        """Return whether the TAP is still there. Its frames go straight on if the host cannot lead them. Raises a HostError."""
        led = False
        try:
            lead(self._host, tap, f"{TAP_ALIAS}{vm_id}")
            led = True
            self._host.leave_no_work(ifb_name(tap))  # if that ends halfway, the rest is better than nothing
        except HostError:
            if not led:
                straight_on(self._host, tap)
            if needed(self._host, tap):
                raise
            return False
        return True

    def _led(self, taps: list[str]) -> set[str]:
        """Return the TAPs whose frames go round their IFB."""
        if not taps:
            return set()
        asked = "".join(f"filter show dev {word(tap)} parent {_INGRESS}\n" for tap in taps)
        shown = self._host.run(command("tc", "-force", "-batch", "-", input=asked.encode(), ok=(0, 1, 2))).stdout
        return {tap for tap in taps if f"Redirect to device {ifb_name(tap)})" in shown}


def _known(host: Host) -> bool:
    """Return whether the kernel has IFB by now."""
    return host.exists("/sys/module/ifb") or bool(host.glob(f"{_NET}/ifb*"))


def _is_up(host: Host, link: str) -> bool:
    try:
        return int(host.read_text(f"{_NET}/{link}/flags"), 16) & _IFF_UP != 0
    except (HostError, ValueError):
        return False


def _batch(host: Host, program: str, lines: list[str]) -> None:
    text = "".join(f"{joined(*line.split(' '))}\n" for line in lines)
    host.run(command(program, "-batch", "-", input=text.encode()))

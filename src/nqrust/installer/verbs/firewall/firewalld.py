"""A zone of firewalld(1) for the VM bridge. firewalld rejects what no zone accepts, and nqr's own rules cannot accept it there.

The zone and its policy are files of nqr; firewalld.zone(5), firewalld.policy(5). firewalld takes them at a reload, which drops
what was set at run time alone. The step therefore looks for such settings first, and refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.firewall.undo import PROGRAM, ZONE, is_running, only_at_run_time, undo_zone

FOLDER = "/etc/firewalld"
ZONES, POLICIES = f"{FOLDER}/zones", f"{FOLDER}/policies"
POLICY = f"{ZONE}-out"
_NO_ZONE = 2
"""Exit code of firewall-cmd(1) for an interface in no zone."""


@dataclass(frozen=True)
class FirewalldZone:
    """The zone of `bridge`: guests may send the host DHCP, ping, DNS if the bridge serves it (`dns`), and `tcp_ports`. `outside`:
    they may send to other networks. nqr's own rules narrow all of that. A bridge that somebody has put into another zone stays
    there."""

    kind: ClassVar[str] = "firewalld"

    bridge: str
    tcp_ports: tuple[int, ...] = ()
    dns: bool = False
    outside: bool = True

    @property
    def id(self) -> str:
        return "firewalld"

    def describe(self) -> str:
        return f"put {self.bridge} into the firewalld zone {ZONE}"

    @property
    def files(self) -> tuple[File, ...]:
        zone = File(f"{ZONES}/{ZONE}.xml", zone_xml(self.bridge, self.tcp_ports, dns=self.dns))
        return (zone, File(f"{POLICIES}/{POLICY}.xml", policy_xml())) if self.outside else (zone,)

    def inspect(self, host: Host) -> Inspection:
        diff: list[str] = []
        for file in self.files:
            found = file.inspect(host)
            if isinstance(found, Conflict):
                return found
            diff += found.diff if isinstance(found, Needed) else ()
        if not is_running(host):
            return Needed(tuple(diff)) if diff else Satisfied()
        zone = self._zone_now(host)
        if zone not in ("", ZONE):
            return Satisfied(f"firewalld has {self.bridge} in its zone {zone}, which decides what VMs may send")
        if zone != ZONE:
            diff.append(f"+ {self.bridge} in the zone {ZONE} of firewalld")
        if not diff:
            return Satisfied()
        lost = only_at_run_time(host)
        if lost:
            return Conflict(
                "NQR-NET-112",
                f"firewalld has settings that are not saved ({lost[0]}), and a reload would drop them.",
                "Save them (firewall-cmd --runtime-to-permanent) or drop them (firewall-cmd --reload), then run the same command"
                " again.",
            )
        return Needed(tuple(diff))

    def prepare(self, host: Host) -> Prepared:
        # Records are reverted from the last to the first: the reload comes after the files are gone.
        files = [file.prepare(host) for file in self.files if isinstance(file.inspect(host), Needed)]
        origin = Origin.modified if any(one.origin is Origin.modified for one in files) else Origin.created
        return Prepared(origin, (undo_zone(self.bridge), *(undo for one in files for undo in one.undo)))

    def apply(self, host: Host) -> None:
        for file in self.files:
            file.apply(host)
        if not is_running(host):
            return
        try:
            host.run(command(PROGRAM, "--check-config", timeout=60))
            host.run(command(PROGRAM, "--reload", timeout=60))
        except CommandFailed as error:
            raise StepFailed(
                "NQR-NET-113",
                f"firewalld does not take its configuration: {error.stderr.strip() or error}.",
                "Find the fault with `firewall-cmd --check-config`, then run the same command again.",
            ) from error

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _zone_now(self, host: Host) -> str:
        asked = host.run(command(PROGRAM, f"--get-zone-of-interface={self.bridge}", ok=(0, _NO_ZONE), timeout=60))
        return asked.stdout.strip() if asked.code == 0 else ""


def zone_xml(bridge: str, tcp_ports: tuple[int, ...], *, dns: bool) -> str:
    """Return the zone. Its target drops what its lines do not accept."""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<!-- Written by nqr: the bridge of the VMs. -->",
        '<zone target="DROP">',
        "  <short>NQRust-MicroVM</short>",
        f'  <interface name="{bridge}"/>',
        '  <service name="dhcp"/>',
        *(['  <service name="dns"/>'] if dns else []),
        *(f'  <port port="{port}" protocol="tcp"/>' for port in tcp_ports),
        '  <protocol value="icmp"/>',
        "  <forward/>",
        "</zone>",
    ]
    return "\n".join(lines) + "\n"


def policy_xml() -> str:
    """Return the policy for what guests send to other networks."""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<!-- Written by nqr: VMs reach other networks. -->",
        '<policy priority="-1" target="ACCEPT">',
        "  <short>NQRust-MicroVM</short>",
        f'  <ingress-zone name="{ZONE}"/>',
        '  <egress-zone name="ANY"/>',
        "</policy>",
    ]
    return "\n".join(lines) + "\n"

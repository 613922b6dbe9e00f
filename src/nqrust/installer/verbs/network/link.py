"""A bridge with an address, created by ip(8) of iproute2. Its alias marks it as nqr's."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import ClassVar

from nqrust.contract import names as product
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.engine.retire import MAKES_WAY
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.verbs.network.undo import undo_addresses, undo_bridge, undo_link

ALIAS = product.PRODUCT
_IFF_UP = 0x1  # netdevice(7)


@dataclass(frozen=True)
class LinkState:
    exists: bool
    bridge: bool = False
    up: bool = False
    alias: str = ""
    mac: str = ""
    addresses: tuple[str, ...] = ()  # IPv4, CIDR


@dataclass(frozen=True)
class Bridge:
    """A bridge. `address`: CIDR of the host on it, empty for none. IPv6 is off on it: otherwise guests reach the host's
    services by its link-local address, past every IPv4 rule. Its MAC is fixed: otherwise it takes the lowest of its ports, and
    a VMM can choose that of its TAP. The step adopts a foreign bridge that fits, and otherwise
    reports a conflict; the foreign alias stays. `former`: addresses of nqr's bridge from earlier settings, to remove;
    `instead_of`: nqr's bridges that make way."""

    kind: ClassVar[str] = "bridge"

    name: str
    address: str = ""
    former: tuple[str, ...] = ()
    instead_of: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"bridge:{self.name}"

    def describe(self) -> str:
        return f"create bridge {self.name}" + (f" with {self.address}" if self.address else "")

    def inspect(self, host: Host) -> Inspection:
        state = link_state(host, self.name)
        if not state.exists:
            taken = self._subnet_taken(host)
            return taken or Needed((f"+ bridge {self.name} {self.address}".rstrip(),))
        if not state.bridge:
            return Conflict(
                "NQR-NET-102",
                f"There is a network interface {self.name} already, and it is not a bridge.",
                "Choose another name with --bridge-name, or rename that interface.",
            )
        fits = self.address in state.addresses if self.address else True
        if state.alias == ALIAS:
            repairs = self._repairs(state)
            return Needed(repairs) if repairs else Satisfied()
        if fits and state.up:
            return self._public_ipv6(host) or Satisfied("was there before")
        if not fits:
            has = ", ".join(state.addresses) or "no address"
            return Conflict(
                "NQR-NET-103",
                f"nqr did not make the existing bridge {self.name}, which has {has} instead of {self.address}.",
                f"Choose another name with --bridge-name, or give that bridge the address {self.address} yourself.",
            )
        return Conflict(
            "NQR-NET-104",
            f"nqr did not make the existing bridge {self.name}, which is down.",
            f"Bring it up (ip link set {self.name} up) if it is meant for VMs, or choose another name with --bridge-name.",
        )

    def prepare(self, host: Host) -> Prepared:
        state = link_state(host, self.name)
        if state.exists:  # an existing Needed bridge has nqr's alias
            ours = [self.address] if self.address else []
            return Prepared(Origin.modified, (undo_addresses(self.name, prior=list(state.addresses), ours=ours),))
        return Prepared(Origin.created, (undo_link(self.name),))

    def apply(self, host: Host) -> None:
        batch, mac = list[str](), product.bridge_mac(self.name)
        if not host.exists(f"/sys/class/net/{self.name}"):
            batch.append(f"link add name {self.name} address {mac} type bridge")  # udev may not choose one either
        batch += [f"link set dev {self.name} alias {ALIAS}", f"link set dev {self.name} address {mac}"]
        if self.address:
            batch.append(f"address replace {self.address} brd + dev {self.name}")
        now = link_state(host, self.name).addresses
        batch += [f"address del {address} dev {self.name}" for address in self._outdated(now)]
        # One process for everything, so that a kill in between cannot leave a bridge without nqr's mark.
        host.run(command("ip", "-batch", "-", input=("\n".join(batch) + "\n").encode()))
        off = f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6"
        if host.exists(off):
            host.run(command("tee", off, input=b"1\n"))
        host.run(command("ip", "link", "set", "dev", self.name, "up"))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # ---
    def _repairs(self, state: LinkState) -> tuple[str, ...]:
        lines = []
        if self.address and self.address not in state.addresses:
            lines.append(f"+ {self.address} on {self.name}")
        lines += [f"- {address} on {self.name}" for address in self._outdated(state.addresses)]
        if state.mac != product.bridge_mac(self.name):
            lines.append(f"+ MAC {product.bridge_mac(self.name)} on {self.name}")
        if not state.up:
            lines.append(f"bring {self.name} up")
        return tuple(lines)

    def _outdated(self, addresses: tuple[str, ...]) -> list[str]:
        return [address for address in addresses if address in self.former and address != self.address]

    def _public_ipv6(self, host: Host) -> Conflict | None:
        """Return a conflict for public IPv6 addresses: the step turns IPv6 off on the bridge, which would delete them."""
        found = parse_addresses(host.run(command("ip", "-j", "-6", "address", "show", "dev", self.name)).stdout)
        public = [a for a in found.get(self.name, []) if not ipaddress.ip_interface(a).is_link_local]
        if not public:
            return None
        return Conflict(
            "NQR-NET-106",
            f"nqr did not make the existing bridge {self.name}, which has the IPv6 address {public[0]}.",
            "Choose another name with --bridge-name, or take IPv6 off that bridge: VMs use IPv4 only, and IPv6 would lead"
            " past the rules that keep them off this host.",
        )

    def _subnet_taken(self, host: Host) -> Conflict | None:
        """Return a conflict for a second interface with the subnet: the kernel would send answers to the wrong one."""
        if not self.address:
            return None
        ours = ipaddress.ip_interface(self.address).network
        for name, addresses in all_addresses(host).items():
            if name in self.instead_of and link_state(host, name).alias == ALIAS:
                continue
            for address in addresses:
                if ipaddress.ip_interface(address).network.overlaps(ours):
                    return Conflict(
                        "NQR-NET-105",
                        f"The network {ours} overlaps with {address} on {name}.",
                        "Choose another VM network (network.cidr in the configuration file).",
                    )
        return None


@dataclass(frozen=True)
class BridgeMakesWay:
    """Remove nqr's bridge of earlier settings before the bridge `for_bridge` takes its subnet."""

    kind: ClassVar[str] = MAKES_WAY

    name: str
    for_bridge: str

    @property
    def id(self) -> str:
        return f"{MAKES_WAY}:bridge:{self.name}"

    def describe(self) -> str:
        return f"remove bridge {self.name}, which gives its network to {self.for_bridge}"

    def inspect(self, host: Host) -> Inspection:
        state = link_state(host, self.name)
        return Needed((f"- bridge {self.name}",)) if state.bridge and state.alias == ALIAS else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        state = link_state(host, self.name)
        return Prepared(Origin.modified, (undo_bridge(self.name, alias=state.alias, addresses=list(state.addresses)),))

    def apply(self, host: Host) -> None:
        host.run(command("ip", "link", "delete", self.name))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)


def all_addresses(host: Host) -> dict[str, list[str]]:
    """Return every interface's IPv4 addresses (CIDR); none if ip(8) is not installed yet."""
    try:
        out = host.run(command("ip", "-j", "-4", "address", "show")).stdout
    except HostError:
        return {}
    return parse_addresses(out)


def parse_addresses(text: str) -> dict[str, list[str]]:
    """Parse `ip -j address show`."""
    found: dict[str, list[str]] = {}
    for link in json.loads(text or "[]"):
        name = link.get("ifname")
        if name:
            found[name] = [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", []) if "local" in a]
    return found


def link_state(host: Host, name: str) -> LinkState:
    """Return one interface's state, from sysfs and ip(8)."""
    base = f"/sys/class/net/{name}"
    if not host.exists(base):
        return LinkState(exists=False)
    flags = host.read_text(f"{base}/flags").strip()
    return LinkState(
        exists=True,
        bridge=host.exists(f"{base}/bridge"),
        up=bool(int(flags, 16) & _IFF_UP) if flags else False,
        alias=host.read_text(f"{base}/ifalias").strip(),
        mac=host.read_text(f"{base}/address").strip() if host.exists(f"{base}/address") else "",
        addresses=tuple(all_addresses(host).get(name, ())),
    )

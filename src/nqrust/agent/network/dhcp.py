"""A VM's address: a file in dnsmasq's dhcp-hostsdir, and its lease. dnsmasq(8), RFC 2131.

dnsmasq picks up new files (inotify). It ignores removed ones: it keeps the old reservation and refuses the next one for the
same address ("duplicate dhcp-host IP address") until SIGHUP. After a removal the agent therefore signals the dnsmasq that
reads its folder, and no other. The agent never writes the lease file, because dnsmasq holds it in memory. It releases the
lease with a DHCPRELEASE in the VM's name, as dhcp_release(1) does.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import signal
import socket
import struct
from dataclasses import dataclass

from nqrust.agent.scopes import procfs
from nqrust.contract.names import MAC_PREFIX
from nqrust.contract.text import one_line, word
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host, Kind

_NET_ADMIN = 1 << 12


@dataclass(frozen=True)
class Lease:
    mac: str
    ip: str


def parse_leases(text: str) -> list[Lease]:
    """Parse the IPv4 leases of a dnsmasq lease file: `expiry mac ip name client-id` a line. Other lines are skipped."""
    leases = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 4 and re.fullmatch(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", fields[1]):
            leases.append(Lease(fields[1].lower(), fields[2]))
    return leases


def release_packet(mac: str, ip: str, server: str) -> bytes:
    """Return a DHCPRELEASE (RFC 2131, table 5): ciaddr and chaddr of the client, server identifier, nothing else."""
    chaddr = bytes.fromhex(mac.replace(":", ""))
    head = struct.pack(
        "!BBBBIHH4s4s4s4s16s64s128s",
        1,
        1,
        6,
        0,
        secrets.randbits(32),
        0,
        0,
        ipaddress.IPv4Address(ip).packed,
        b"",
        b"",
        b"",
        chaddr,
        b"",
        b"",
    )
    options = bytes([53, 1, 7, 54, 4]) + ipaddress.IPv4Address(server).packed + b"\xff"
    return head + b"\x63\x82\x53\x63" + options


def _may_serve(status: str) -> bool:
    """Return whether a process may change the network, from its /proc/PID/status: dnsmasq keeps this capability when it stops
    being root, and no user's program has it in this user namespace. capabilities(7)"""
    found = re.search(r"^CapEff:\s+([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & _NET_ADMIN)


class Dhcp:
    """`server`: dnsmasq's address on `bridge`. Empty if the LAN has its own DHCP; every method is then a no-op."""

    def __init__(self, host: Host, *, bridge: str, server: str, hosts_dir: str, leases: str) -> None:
        self._host, self._bridge, self._server = host, bridge, server
        self._dir, self._leases = hosts_dir, leases

    def reserve(self, vm_id: str, mac: str, ip: str, name: str) -> None:
        """Reserve `ip` for `mac`. An identical reservation is not rewritten."""
        if not self._server:
            return
        line = f"{one_line(','.join(map(word, (mac, ip, name))))}\n".encode()
        path = f"{self._dir}/{vm_id}"
        before = self._content(path)
        if before == line:
            return
        self._prepare()
        self._host.write_file(path, line, mode=0o644)
        if before is not None:
            self._reread()

    def release(self, vm_id: str, mac: str | None) -> None:
        """Remove reservation and lease. Missing ones are not an error."""
        if not self._server:
            return
        path = f"{self._dir}/{vm_id}"
        before = self._content(path)
        if mac is None and before is not None:
            mac = before.decode(errors="replace").partition(",")[0]
        if before is not None:
            self._host.remove(path)
            self._reread()
        for lease in self._current():
            if mac is not None and lease.mac == mac.lower():
                self._give_back(lease)

    def give_back_lost(self) -> list[Lease]:
        """Release leases of the agent's VMs that have no reservation any more, and return them.

        A release sent during a restart of dnsmasq is lost. A lease that this returns again was still not released.
        """
        if not self._server:
            return []
        ours = [lease for lease in self._current() if lease.mac.startswith(MAC_PREFIX)]
        reserved = self._reserved() if ours else set()
        lost = [lease for lease in ours if lease.mac not in reserved]
        for lease in lost:
            self._give_back(lease)
        return lost

    def _reserved(self) -> set[str]:
        try:
            contents = [self._content(f"{self._dir}/{name}") or b"" for name in self._host.listdir(self._dir)]
        except PathMissing:
            return set()
        return {content.decode(errors="replace").partition(",")[0].lower() for content in contents}

    def _content(self, path: str) -> bytes | None:
        try:
            return self._host.read_bytes(path)
        except PathMissing:
            return None

    def _prepare(self) -> None:
        for path in (self._dir.rpartition("/")[0], self._dir):
            if self._host.stat(path) is None:
                self._host.mkdir(path, mode=0o755)

    def _current(self) -> list[Lease]:
        try:
            return parse_leases(self._host.read_text(self._leases))
        except HostError:
            return []

    def _give_back(self, lease: Lease) -> None:
        try:
            packet = release_packet(lease.mac, lease.ip, self._server)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                # The server checks the interface of each packet.
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._bridge.encode())
                sender.sendto(packet, (self._server, 67))
        except (OSError, ValueError):
            return  # the lease expires; the database still manages the address

    def _reread(self) -> None:
        for pid in self._servers():
            self._host.kill(pid, signal.SIGHUP)

    def _servers(self) -> list[int]:
        """Return PIDs of the dnsmasq that reads this agent's folder, in the same PID, network and user namespaces."""
        found = []
        for entry in self._host.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                if self._host.read_text(f"/proc/{entry}/comm").strip() != "dnsmasq":
                    continue
                same = all(self._namespace(entry, kind) == self._namespace("self", kind) for kind in ("pid", "net", "user"))
                # Any program can take this name and name any file, such as a FIFO or a watchdog, which root would open.
                if not same or not _may_serve(self._host.read_text(f"/proc/{entry}/status")):
                    continue
                if self._reads_our_folder(self._host.read_bytes(f"/proc/{entry}/cmdline", procfs.LARGEST)):
                    found.append(int(entry))
            except HostError:
                continue  # it ended during the scan
        return found

    def _namespace(self, process: str, kind: str) -> str:
        try:
            return self._host.readlink(f"/proc/{process}/ns/{kind}")
        except PathMissing:  # it ended, or this kernel has no namespaces of this kind
            return ""

    def _reads_our_folder(self, cmdline: bytes) -> bool:
        option = f"dhcp-hostsdir={self._dir}"
        arguments = cmdline.decode(errors="replace").split("\0")
        if f"--{option}" in arguments:
            return True
        for number, argument in enumerate(arguments):
            path = ""
            if argument.startswith("--conf-file="):
                path = argument.partition("=")[2]
            elif argument == "-C" and number + 1 < len(arguments):
                path = arguments[number + 1]
            elif argument.startswith("-C"):
                path = argument[2:]
            found = self._host.stat(path) if path.startswith("/") else None
            if found is not None and found.kind is Kind.file and found.uid == 0:
                lines = self._host.read_bytes(path, procfs.LARGEST).decode(errors="replace").splitlines()
                if any(line.replace(" ", "").partition("#")[0] == option for line in lines):
                    return True
        return False

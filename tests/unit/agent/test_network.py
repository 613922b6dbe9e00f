"""TAPs and addresses: commands for the kernel and for dnsmasq."""

from __future__ import annotations

import dataclasses
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent import facts
from nqrust.agent.errors import Conflict, Failed
from nqrust.agent.network.dhcp import Dhcp, Lease, parse_leases, release_packet
from nqrust.agent.network.sources import Sources
from nqrust.agent.network.taps import Taps
from nqrust.agent.store import VmRecord
from nqrust.contract.agent import ImageRef
from nqrust.contract.images import Blob
from nqrust.contract.names import mac_address, tap_mac
from nqrust.host.local import LocalHost
from nqrust.host.port import Command, Completed, Kind

TAP = "tap0123456789a"
USER = 1_900_000_000
WRONG = (
    "its MAC was 02:00:00:00:00:01",
    "the bridge learned addresses from it",
    "it got frames for unknown MACs",
    "its isolation was not as configured",
    "the bridge did not know its VM's MAC",
    "frames from it reached the host past the bridge",
    "the host answered ARP on it",
    "the host had IPv6 on it",
    "the host took packets from it",
    "the host did not know the MAC of 10.0.0.20",
)


def machine(*, bridge: bool = True, alias: str | None = None, owner: int = USER) -> FakeHost:
    host = FakeHost.debian12()
    for path in ("/sys", "/sys/class", "/sys/class/net", "/sys/class/net/eth0"):
        if host.stat(path) is None:
            host.mkdir(path)
    if bridge:
        host.mkdir("/sys/class/net/fcbr0")
        host.mkdir("/sys/class/net/fcbr0/bridge")
    if alias is not None:
        host.mkdir(f"/sys/class/net/{TAP}")
        host.write_file(f"/sys/class/net/{TAP}/tun_flags", b"0x2\n")
        host.write_file(f"/sys/class/net/{TAP}/ifalias", alias.encode() + b"\n")
        host.write_file(f"/sys/class/net/{TAP}/flags", b"0x1003\n")
        host.write_file(f"/sys/class/net/{TAP}/owner", f"{owner}\n".encode())
        host.symlink("../fcbr0", f"/sys/class/net/{TAP}/master")
    host.install("ip")
    host.install("nsenter")
    host.on("ip", prefix=True)
    host.on("nsenter", prefix=True)
    return host


def ran(host: FakeHost) -> list[tuple[str, ...]]:
    """Return each command, with each line of its standard input after its argv."""
    seen: list[tuple[str, ...]] = []
    run = host.run

    def record(cmd: Command, **more: Any) -> Completed:
        text = cmd.input.decode() if isinstance(cmd.input, bytes) else ""
        seen.append((*cmd.argv, *text.splitlines()))
        return run(cmd, **more)

    host.run = record  # type: ignore[method-assign]
    return seen


def test_a_tap_comes_from_the_vms_namespace_to_the_bridge_and_is_kept_from_other_guests() -> None:
    host = machine()
    host.write_file("/sys/class/net/fcbr0/addr_assign_type", b"1\n")
    host.write_file("/sys/class/net/fcbr0/address", b"62:00:00:00:00:01\n")
    seen = ran(host)
    Taps(host, "fcbr0", isolated=True).take(TAP, "a1", 77)
    assert seen == [
        (
            *("nsenter", "--net=/proc/77/ns/net", "--", "ip", "-batch", "-"),
            f"link set dev {TAP} address {tap_mac('a1')}",
            f"link set dev {TAP} netns {os.getpid()}",
        ),
        (
            "ip",
            "-batch",
            "-",
            "link set dev fcbr0 address 62:00:00:00:00:01",
            f"link set dev {TAP} alias nqrust-vm:a1",
            f"link set dev {TAP} arp off",
            f"link set dev {TAP} master fcbr0",
            f"link set dev {TAP} type bridge_slave group_fwd_mask 65533 isolated on",
            f"link set dev {TAP} up",
        ),
    ]


def test_a_tap_that_is_here_already_is_made_a_port() -> None:
    """An agent that is killed may have moved it, and no more."""
    host = machine(alias="nqrust-vm:a1")
    host.write_file(f"/sys/class/net/{TAP}/flags", b"0x1002\n")
    seen = ran(host)
    taps = Taps(host, "fcbr0", isolated=True)
    assert not taps.connected(TAP, "a1")
    taps.take(TAP, "a1", 77)
    assert [line[0] for line in seen] == ["ip"] and seen[0][-1] == f"link set dev {TAP} up"


def test_the_fixed_mac_of_a_bridge_and_guests_that_may_meet_stay_so() -> None:
    host = machine()
    host.write_file("/sys/class/net/fcbr0/addr_assign_type", b"3\n")
    seen = ran(host)
    Taps(host, "fcbr0", isolated=False).take(TAP, "a1", 77)
    assert seen[-1][3] == f"link set dev {TAP} alias nqrust-vm:a1" and seen[-1][-2].endswith("isolated off")


def test_a_port_goes_up_pinned_and_no_other_vm_has_its_mac() -> None:
    host = machine(alias="nqrust-vm:b2")
    host.write_file("/sys/class/net/fcbr0/addr_assign_type", b"3\n")
    host.write_file(f"/sys/class/net/{TAP}/address", mac_address("a1").encode() + b"\n")
    host.install("bridge")
    host.on("bridge", prefix=True)
    records = [record("a1", "10.0.0.20", "tapffffffffff0"), record("b2", "10.0.0.21", TAP)]
    seen, mac = ran(host), mac_address("a1")
    taps = Taps(host, "fcbr0", isolated=True, records=lambda: records)
    port = (
        "link set dev tapffffffffff0 alias nqrust-vm:a1",
        "link set dev tapffffffffff0 arp off",
        "link set dev tapffffffffff0 master fcbr0",
        "link set dev tapffffffffff0 type bridge_slave learning off flood off guard on group_fwd_mask 65533 isolated on",
        f"neigh replace 10.0.0.20 lladdr {mac} dev fcbr0 nud permanent",
        "link set dev tapffffffffff0 up",
    )
    taps.take("tapffffffffff0", "a1", 77)
    assert seen[1:] == [
        ("ip", "-batch", "-", f"link set dev {TAP} address {tap_mac('b2')}"),
        ("ip", "-batch", "-", *port[:-1]),
        ("ip", "link", "set", "dev", "tapffffffffff0", "type", "bridge_slave", "locked", "on"),
        ("ip", "-batch", "-", port[-1]),
        ("bridge", "fdb", "replace", mac, "dev", "tapffffffffff0", "master", "static"),
    ]
    seen.clear()
    taps.take("tapffffffffff0", "a1", 77)
    locked = tuple(f"{line} locked on" if "bridge_slave" in line else line for line in port)
    assert seen[2:] == [
        ("ip", "-batch", "-", *locked),
        ("bridge", "fdb", "replace", mac, "dev", "tapffffffffff0", "master", "static"),
    ]


def test_a_tap_of_an_earlier_start_makes_way() -> None:
    """Its owner may be the user of another VM by now."""
    host = machine(alias="nqrust-vm:a1", owner=USER + 1)
    seen = ran(host)
    Taps(host, "fcbr0", isolated=True).make_way(TAP, "a1")
    assert ("ip", "link", "delete", "dev", TAP) in seen


def record(vm_id: str, ip: str | None, tap: str) -> VmRecord:
    blob = Blob(file="x", size=1, sha256="0" * 64)
    return VmRecord(
        id=vm_id,
        name=vm_id,
        generation=1,
        vcpus=1,
        memory_mib=64,
        disk_mib=16,
        mac=mac_address(vm_id),
        tap=tap,
        image=ImageRef(name="tiny", rootfs=blob, kernel=blob),
        ip=ip,
        asked="run",
        created_at=datetime.now(timezone.utc),
    )


def test_where_addresses_are_ours_to_give_nobody_learns_them_from_guests() -> None:
    host = machine(alias="nqrust-vm:a1")
    host.install("bridge")
    host.on("bridge", prefix=True)
    seen = ran(host)
    host.write_file(f"/sys/class/net/{TAP}/address", b"02:00:00:00:00:01\n")
    host.mkdir(f"/sys/class/net/{TAP}/brport")
    for flag, value in {"learning": "1", "unicast_flood": "1", "isolated": "0", "group_fwd_mask": "0x0"}.items():
        host.write_file(f"/sys/class/net/{TAP}/brport/{flag}", f"{value}\n".encode())
    parameters = [f"/proc/sys/net/ipv{one}/conf/{TAP}/{name}" for one, name in ((6, "disable_ipv6"), (4, "rp_filter"))]
    for path in parameters:
        host.put(path, "0\n")
    records = [record("a1", "10.0.0.20", TAP), record("b2", "10.0.0.21", "tapffffffffff0")]
    mac = mac_address("a1")
    assert Taps(host, "fcbr0", isolated=True, records=lambda: records).pin() == {TAP: WRONG}, "the other has no TAP"
    assert seen == [
        ("ip", "-batch", "-", f"link set dev {TAP} address {tap_mac('a1')}"),
        ("bridge", "fdb", "show", "br", "fcbr0"),
        ("bridge", "fdb", "replace", mac, "dev", TAP, "master", "static"),
        (
            *("ip", "-batch", "-", f"link set dev {TAP} arp off"),
            f"link set dev {TAP} type bridge_slave learning off flood off guard on group_fwd_mask 65533 isolated on",
        ),
        ("ip", "link", "set", "dev", TAP, "type", "bridge_slave", "locked", "on"),
        ("ip", "-4", "neigh", "show", "dev", "fcbr0", "nud", "permanent"),
        ("ip", "-batch", "-", f"neigh replace 10.0.0.20 lladdr {mac} dev fcbr0 nud permanent"),
    ]
    assert [host.read_text(path) for path in parameters] == ["1\n", "1\n"]
    seen.clear()
    assert Taps(host, "fcbr0", isolated=True).pin() == {}, "a LAN with its own DHCP says itself who is who"
    assert seen == []


def test_another_vms_tap_is_not_taken() -> None:
    host = machine(alias="nqrust-vm:b2")
    seen = ran(host)
    with pytest.raises(Conflict) as refused:
        Taps(host, "fcbr0", isolated=True).make_way(TAP, "a1")
    assert refused.value.code == "NQR-NET-701"
    Taps(host, "fcbr0", isolated=True).remove(TAP, owner="a1")
    assert seen == []


def test_the_rule_for_a_vms_address_goes_with_its_tap() -> None:
    host = machine(alias="nqrust-vm:a1")
    sources = Mock(spec=Sources)
    Taps(host, "fcbr0", isolated=True, records=list, sources=sources).remove(TAP, owner="b2")
    assert sources.sync.call_count == 0, "another VM's"
    Taps(host, "fcbr0", isolated=True, records=list, sources=sources).remove(TAP, owner="a1")
    assert sources.sync.call_count == 1


def test_without_the_bridge_nothing_is_made() -> None:
    host = machine(bridge=False)
    seen = ran(host)
    with pytest.raises(Failed) as failed:
        Taps(host, "fcbr0", isolated=True).make_way(TAP, "a1")
    assert (failed.value.code, seen) == ("NQR-NET-703", [])


def test_only_our_taps_are_listed() -> None:
    (tap,) = Taps(machine(alias="nqrust-vm:a1"), "fcbr0", isolated=True).all()
    assert (tap.name, tap.vm_id, tap.bridge, tap.up) == (TAP, "a1", "fcbr0", True)
    assert Taps(machine(), "fcbr0", isolated=True).all() == []


def test_leases_of_dnsmasq() -> None:
    text = "1795389143 06:4E:6d:78:18:6e 10.9.0.21 web3 01:06:4e:6d:78:18:6e\nduid 00:01:00:01\n\n1 x y\n"
    assert parse_leases(text) == [Lease("06:4e:6d:78:18:6e", "10.9.0.21")]


def test_a_release_speaks_for_the_client() -> None:
    packet = release_packet("06:4e:00:00:00:01", "10.0.0.20", "10.0.0.1")
    assert packet[:4] == bytes([1, 1, 6, 0])
    assert packet[12:16] == bytes([10, 0, 0, 20])
    assert packet[28:34] == bytes.fromhex("064e00000001")
    assert packet[236:] == b"\x63\x82\x53\x63" + bytes([53, 1, 7, 54, 4, 10, 0, 0, 1, 255])


def dnsmasq_host(config: str, cmdline: bytes, *, net: str = "net:[1]", may: str = "3000", space: str = "user:[1]") -> FakeHost:
    host = FakeHost.debian12()
    for path in ("/proc", "/proc/self", "/proc/self/ns", "/proc/77", "/proc/77/ns", "/srv", "/srv/hosts.d"):
        if host.stat(path) is None:
            host.mkdir(path)
    host.write_file("/proc/77/comm", b"dnsmasq\n")
    host.write_file("/proc/77/cmdline", cmdline)
    host.write_file("/proc/77/status", f"Name:\tdnsmasq\nCapPrm:\t{'f' * 16}\nCapEff:\t{may:0>16}\n".encode())
    for kind, mine, theirs in (("pid", "pid:[1]", "pid:[1]"), ("net", "net:[1]", net), ("user", "user:[1]", space)):
        host.symlink(mine, f"/proc/self/ns/{kind}")
        host.symlink(theirs, f"/proc/77/ns/{kind}")
    host.write_file("/etc/ours.conf", config.encode())
    host.write_file("/srv/hosts.d/a1", b"06:4e:00:00:00:01,10.0.0.20,web1\n")
    return host


@pytest.mark.parametrize(
    ("config", "cmdline", "net", "told"),
    [
        ("dhcp-hostsdir=/srv/hosts.d\n", b"dnsmasq\0--conf-file=/etc/ours.conf\0", "net:[1]", True),
        ("dhcp-hostsdir=/srv/hosts.d\n", b"dnsmasq\0-C\0/etc/ours.conf\0", "net:[1]", True),
        ("", b"dnsmasq\0--dhcp-hostsdir=/srv/hosts.d\0", "net:[1]", True),
        ("dhcp-hostsdir=/srv/other\n", b"dnsmasq\0--conf-file=/etc/ours.conf\0", "net:[1]", False),
        ("dhcp-hostsdir=/srv/hosts.d\n", b"dnsmasq\0--conf-file=/etc/ours.conf\0", "net:[2]", False),
    ],
)
def test_only_the_dnsmasq_that_reads_our_folder_is_told_of_a_removal(config: str, cmdline: bytes, net: str, told: bool) -> None:
    host = dnsmasq_host(config, cmdline, net=net)
    signals: list[int] = []
    host.kill = lambda pid, signal: bool(signals.append(pid)) or True  # type: ignore[method-assign]
    dhcp = Dhcp(host, bridge="fcbr0", server="10.0.0.1", hosts_dir="/srv/hosts.d", leases="/srv/leases")
    dhcp.release("a1", "06:4e:00:00:00:01")
    assert not host.exists("/srv/hosts.d/a1")
    assert signals == ([77] if told else [])


@pytest.mark.parametrize(("may", "space"), [("0", "user:[1]"), ("2000", "user:[1]"), ("1ffffffffff", "user:[2]")])
def test_the_word_of_a_users_program_leads_root_to_no_file(may: str, space: str) -> None:
    """It calls itself dnsmasq and names a FIFO, which would hold the agent, or a device that root's open(2) starts. In a user
    namespace of its own, it may do anything."""
    host = dnsmasq_host("dhcp-hostsdir=/srv/hosts.d\n", b"dnsmasq\0--conf-file=/tmp/fifo\0", may=may, space=space)
    read = host.read_bytes
    host.read_bytes = lambda path, limit=None: pytest.fail(path) if "cmdline" in path or "fifo" in path else read(path, limit)  # type: ignore[method-assign]
    Dhcp(host, bridge="fcbr0", server="10.0.0.1", hosts_dir="/srv/hosts.d", leases="/srv/leases").release(
        "a1", "06:4e:00:00:00:01"
    )
    assert not host.exists("/srv/hosts.d/a1")


@pytest.mark.parametrize("what", ["a device", "a user's file", "a link"])
def test_of_a_dnsmasq_the_agent_opens_plain_files_of_root_alone(what: str) -> None:
    host = dnsmasq_host("dhcp-hostsdir=/srv/hosts.d\n", b"dnsmasq\0-C/srv/named\0")
    if what == "a link":
        host.symlink("/etc/ours.conf", "/srv/named")
    else:
        host.write_file("/srv/named", b"dhcp-hostsdir=/srv/hosts.d\n", owner="root" if what == "a device" else "nobody")
    stat = host.stat
    if what == "a device":
        host.stat = lambda path: dataclasses.replace(stat(path), kind=Kind.other) if path == "/srv/named" else stat(path)  # type: ignore[method-assign,type-var]
    signals: list[int] = []
    host.kill = lambda pid, signal: bool(signals.append(pid)) or True  # type: ignore[method-assign]
    Dhcp(host, bridge="fcbr0", server="10.0.0.1", hosts_dir="/srv/hosts.d", leases="/srv/leases").release(
        "a1", "06:4e:00:00:00:01"
    )
    assert signals == []


def test_a_lease_whose_release_nobody_heard_is_given_back_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leases, folder = tmp_path / "leases", tmp_path / "hosts.d"
    folder.mkdir()
    (folder / "a1").write_text("06:4e:00:00:00:01,10.0.0.20,web1\n")
    leases.write_text(
        "1 06:4e:00:00:00:01 10.0.0.20 web1 *\n"  # reserved
        "1 06:4e:00:00:00:02 10.0.0.21 * *\n"  # of a VM that is no more
        "1 52:54:00:00:00:03 10.0.0.22 * *\n"  # not a VM of nqr
    )
    given: list[Lease] = []
    dhcp = Dhcp(LocalHost(), bridge="fcbr0", server="10.0.0.1", hosts_dir=str(folder), leases=str(leases))
    monkeypatch.setattr(dhcp, "_give_back", given.append)
    assert dhcp.give_back_lost() == given == [Lease("06:4e:00:00:00:02", "10.0.0.21")]
    elsewhere = Dhcp(LocalHost(), bridge="br0", server="", hosts_dir=str(folder), leases=str(leases))
    assert elsewhere.give_back_lost() == []


def test_a_reservation_written_again_touches_nothing(tmp_path: Path) -> None:
    dhcp = Dhcp(LocalHost(), bridge="fcbr0", server="10.0.0.1", hosts_dir=str(tmp_path / "d" / "h"), leases="/nowhere")
    dhcp.reserve("a1", "06:4e:00:00:00:01", "10.0.0.20", "web1")
    before = (tmp_path / "d" / "h" / "a1").stat()
    dhcp.reserve("a1", "06:4e:00:00:00:01", "10.0.0.20", "web1")
    after = (tmp_path / "d" / "h" / "a1").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_where_the_lan_has_its_own_dhcp_nothing_is_reserved(tmp_path: Path) -> None:
    dhcp = Dhcp(LocalHost(), bridge="br0", server="", hosts_dir=str(tmp_path / "h"), leases="")
    dhcp.reserve("a1", "06:4e:00:00:00:01", "10.0.0.20", "web1")
    dhcp.release("a1", None)
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize(
    ("advertise", "expected"),
    [
        ("192.0.2.5", "http://192.0.2.5:19090"),
        ("192.0.2.5:19099", "http://192.0.2.5:19099"),
        ("node1", "http://node1:19090"),
        ("http://node1:1/", "http://node1:1"),
        ("2001:db8::1", "http://[2001:db8::1]:19090"),
        ("", "http://127.0.0.1:19090"),
    ],
)
def test_the_advertised_address(advertise: str, expected: str) -> None:
    assert facts.advertised_url(advertise, ("0.0.0.0", 19090), "http://127.0.0.1:18080") == expected


def test_localhost_is_not_advertised_as_an_address_family_we_do_not_listen_on() -> None:
    assert facts.advertised_url("", ("0.0.0.0", 19090), "http://localhost:18080") == "http://127.0.0.1:19090"


def test_capacity_is_this_machines() -> None:
    found = facts.capacity(LocalHost(), "/")
    assert found.cpus >= 1
    assert 0 < found.memory_available_mib <= found.memory_mib
    assert 0 < found.disk_available_mib <= found.disk_mib

"""The fingerprint reports every change that an installer can make, and nothing else."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import places
from tests.fakes.host import FakeHost

from nqrust.contract.paths import Layout
from nqrust.host.errors import ParseError
from nqrust.host.local import LocalHost
from nqrust.host.port import Command
from nqrust.installer.fingerprint import (
    Fingerprint,
    compare,
    files,
    firewall,
    ours,
    render,
    take,
    units,
    volatile,
)
from nqrust.installer.verbs.packages.apt.database import parse_dpkg
from nqrust.installer.verbs.packages.registry import MANAGERS

TABLES = places.TABLES / "facts"
SAVED = (TABLES / "iptables-save").read_text()
RULESET = (TABLES / "nft-ruleset.json").read_text()


def machine() -> FakeHost:
    host = FakeHost.debian12()
    host.put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
    host.put("/etc/group", "root:x:0:\nkvm:x:109:\n")
    host.put("/etc/hosts", "127.0.0.1 localhost\n")
    host.put("/var/lib/dpkg/status", _package("sudo"))
    host.put("/var/lib/apt/extended_states", "")
    host.put("/proc/sys/net/ipv4/ip_forward", "0\n")
    host.put("/proc/sys/net/ipv4/conf/all/forwarding", "0\n")
    host.put("/proc/modules", "kvm 1 0 - Live 0x0\n")
    host.put("/sys/class/net/lo/ifindex", "1\n")
    host.on("systemctl", prefix=True, answer=_systemctl)
    host.memory["unit files"] = "ssh.service enabled enabled\n"
    host.memory["units"] = "ssh.service loaded active running OpenBSD Secure Shell server\n"
    host.memory["rules"] = "*filter\n:INPUT ACCEPT [5:6]\nCOMMIT\n"
    host.on("iptables-save", answer=lambda host, cmd: host.memory["rules"])
    return host


def _package(name: str) -> str:
    return f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1-1\n\n"


def _systemctl(host: FakeHost, cmd: Command) -> str:
    return str(host.memory["unit files" if "list-unit-files" in cmd.argv else "units"])


CHANGES: list[tuple[str, Callable[[FakeHost], object], str]] = [
    ("a new file", lambda host: host.put("/etc/nq.conf", "x"), "+ /etc/nq.conf (file 0644 root:root)"),
    ("a removed file", lambda host: host.remove("/etc/hosts"), "- /etc/hosts"),
    ("new content", lambda host: host.put("/etc/hosts", "else"), "~ /etc/hosts: content differs"),
    ("a new mode", lambda host: host.put("/etc/hosts", "127.0.0.1 localhost\n", mode=0o600), "mode 0644 → 0600"),
    ("a new owner", lambda host: host.put("/etc/hosts", "127.0.0.1 localhost\n", owner="nobody"), "owner root → nobody"),
    (
        "an attribute",
        lambda host: host.put("/etc/hosts", "127.0.0.1 localhost\n", xattrs={"user.x": b"1"}),
        "attributes nothing → user.x=31",
    ),
    ("a symlink", lambda host: host.put_symlink("/opt/x", "/usr/local/bin/nqr"), "+ /usr/local/bin/nqr (symlink"),
    ("a folder", lambda host: host.put_directory("/srv/fc"), "+ /srv/fc (directory"),
    ("a log folder", lambda host: host.put_directory("/var/log/postgresql"), "+ /var/log/postgresql"),
    ("a crontab", lambda host: host.put("/var/spool/cron/crontabs/root", "@daily x"), "+ /var/spool/cron/crontabs/root"),
    ("a sudoers file", lambda host: host.put("/etc/sudoers.d/x", "x"), "+ /etc/sudoers.d/x"),
    ("a user", lambda host: host.put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnq:x:9:9::/:/bin/sh\n"), "+ nq ("),
    ("a membership", lambda host: host.put("/etc/group", "root:x:0:\nkvm:x:109:nq\n"), "~ kvm: 109 → 109 nq"),
    (
        "a package",
        lambda host: host.put("/var/lib/dpkg/status", _package("sudo") + _package("qemu")),
        "+ qemu:amd64 (1-1 installed manual)",
    ),
    (
        "a package mark",
        lambda host: host.put("/var/lib/apt/extended_states", "Package: sudo\nArchitecture: amd64\nAuto-Installed: 1\n"),
        "installed manual → 1-1 installed auto",
    ),
    (
        "a unit",
        lambda host: host.memory.update({"unit files": "ssh.service disabled enabled\n"}),
        "~ ssh.service: enabled → disabled",
    ),
    ("a running unit", lambda host: host.memory.update(units=""), "- ssh.service (active)"),
    ("a rule", lambda host: host.memory.update(rules=SAVED), "+ iptables filter NQR-FORWARD (chain -i fcbr0 -j ACCEPT)"),
    ("a policy", lambda host: host.memory.update(rules="*filter\n:FORWARD DROP [0:0]\n"), "policy DROP"),
    ("forwarding", lambda host: host.put("/proc/sys/net/ipv4/ip_forward", "1\n"), "~ net.ipv4.ip_forward: 0 → 1"),
    ("a module", lambda host: host.put("/proc/modules", "kvm 1 0\ntun 1 0\n"), "+ tun"),
    ("a link", lambda host: host.put("/sys/class/net/fcbr0/ifindex", "7\n"), "+ fcbr0"),
    ("a socket", lambda host: host.put("/proc/net/tcp", (TABLES / "proc-net-tcp").read_text()), "+ tcp 10.0.0.1 18080"),
    (
        "a mount",
        lambda host: host.put(
            "/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 8:2 / /srv/fc rw - ext4 /dev/sdb rw\n"
        ),
        "+ /srv/fc (ext4 /dev/sdb /)",
    ),
]


@pytest.mark.parametrize(("change", "told"), [one[1:] for one in CHANGES], ids=[one[0] for one in CHANGES])
def test_fingerprint_reports_every_change(change: Callable[[FakeHost], object], told: str) -> None:
    host = machine()
    before = take(host)
    assert compare(before, take(host)) == []
    change(host)
    differences = compare(before, take(host))
    assert told in render(differences)
    # And the other way round: what was added is gone.
    assert len(compare(take(host), before)) == len(differences)


def test_taking_changes_nothing() -> None:
    host = machine()
    before = host.state()
    take(host)
    assert host.mutations == [] and host.state() == before


def test_fingerprint_ignores_modification_times() -> None:
    host = machine()
    before = take(host)
    host.sleep(1000)
    host.put("/etc/hosts", "127.0.0.1 localhost\n")
    assert compare(before, take(host)) == []


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd-",
        "/etc/ld.so.cache",
        "/etc/.pwd.lock",
        "/var/lib/apt/lists/some.mirror_Packages",
        "/var/lib/dpkg/status-old",
        "/var/lib/systemd/random-seed",
        "/usr/local/lib/python3/x/__pycache__/a.pyc",
    ],
)
def test_fingerprint_ignores_caches_and_backups(path: str) -> None:
    host = machine()
    host.put_directory("/usr/local/lib/python3/x")
    host.put_directory("/var/lib/apt/lists")
    before = take(host)
    host.put(path, "new")
    assert compare(before, take(host)) == []


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/shadow",
        "/etc/sudoers",
        "/etc/resolv.conf",
        "/etc/apt/sources.list",
        "/etc/fstab",
        "/etc/sysctl.d/99-x.conf",
        "/etc/systemd/system/x.service",
        "/var/lib/nqrust-microvm/journal.jsonl",
        "/var/lib/dpkg/info/x.list",
        "/etc/postgresql/15/main/pg_hba.conf",
        "/var/lib/postgresql/15/main",
    ],
)
def test_configuration_is_never_volatile(path: str) -> None:
    assert not volatile.paths().match(path)
    assert path not in dict(volatile.CLOSED)


def test_waiting_once_for_the_network_is_no_change() -> None:
    """A unit of nqr wants network-online.target, which starts the network manager's service of that name."""
    units = volatile.units()
    assert units.match("NetworkManager-wait-online.service") and not units.match("NetworkManager.service")


def test_every_exception_has_a_reason() -> None:
    rows = [table for one in MANAGERS.values() for table in (one.database.volatile_files, one.database.volatile_units)]
    for table in (volatile.PATHS, volatile.CLOSED, volatile.UNITS, volatile.SYSCTLS, *rows):
        assert all(reason for _, reason in table)
        assert len({pattern for pattern, _ in table}) == len(table)


def test_a_database_counts_by_its_presence_and_configuration() -> None:
    host = machine()
    data = "/var/lib/postgresql/15/main"
    for name in ("PG_VERSION", "postgresql.auto.conf", "base/1/1234", "pg_wal/000", "global/pg_control"):
        host.put(f"{data}/{name}", "1")
    before = take(host)
    host.put(f"{data}/base/1/1234", "2")
    host.put(f"{data}/pg_wal/001", "2")
    assert compare(before, take(host)) == []
    host.put(f"{data}/postgresql.auto.conf", "2")
    assert [one.key for one in compare(before, take(host))] == [f"{data}/postgresql.auto.conf"]
    host.remove_tree(data)
    assert data in [one.key for one in compare(before, take(host))]


def test_other_file_systems_are_not_entered() -> None:
    host = machine()
    host.put("/srv/share/huge", "x")
    host.put("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:50 / /srv/share rw - nfs4 a:/b rw\n")
    found = take(host).sections["files"]
    assert "/srv/share" in found and "/srv/share/huge" not in found


def test_a_disk_is_known_by_size_and_time_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    host = machine()
    monkeypatch.setattr(files, "LARGE", 10)
    host.put("/srv/fc/disk", "x" * 20)
    monkeypatch.setattr(host, "sha256", lambda path: pytest.fail(path) if path == "/srv/fc/disk" else "")
    before = take(host)
    host.put("/srv/fc/disk", "y" * 20)
    assert [one.key for one in compare(before, take(host))] == ["/srv/fc/disk"]


def test_json_round_trip_plain_and_compressed() -> None:
    taken = take(machine())
    assert Fingerprint.from_bytes(taken.to_bytes()) == taken
    assert Fingerprint.from_bytes(taken.to_bytes(compress=True)) == taken
    assert taken.to_bytes(compress=True) == taken.to_bytes(compress=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"schema": 99}',
        b'{"schema": 0}',
        b'{"schema": 1, "files": []}',
        b"\x1f\x8bgarbage",
        gzip.compress(b"x", mtime=0),
        b'{"schema": 1, "taken_at": "x"}',
        b'{"schema": "1"}',
    ],
)
def test_a_file_that_is_no_fingerprint_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        Fingerprint.from_bytes(data)


def test_a_section_that_one_of_the_two_does_not_have_is_not_compared() -> None:
    taken = take(machine())
    older = Fingerprint.from_json({name: value for name, value in taken.to_json().items() if name != "ports"})
    assert compare(older, taken) == []


def test_equal_fingerprints_show_no_difference() -> None:
    assert render([]) == "No difference.\n"


def test_long_lists_can_be_cut() -> None:
    host = machine()
    before = take(host)
    for number in range(10):
        host.put(f"/etc/n{number}", "")
    text = render(compare(before, take(host)), limit=3)
    assert "Files: 10 added" in text and "… and 7 more" in text and text.count("+ ") == 3


# --- parts


def test_firewall_rules_without_counters() -> None:
    assert firewall.parse_save(SAVED, "iptables") == {
        "iptables filter OUTPUT": ["policy DROP"],
        "iptables filter NQR-FORWARD": ["chain", "-i fcbr0 -j ACCEPT"],
        "iptables filter FORWARD": ["-m comment --comment nqrust -j NQR-FORWARD"],
        "iptables nat POSTROUTING": ["-s 10.0.0.0/24 ! -o fcbr0 -j MASQUERADE"],
    }
    busy = SAVED.replace("[0:0]", "[17:4711]")
    assert firewall.parse_save(busy, "iptables") == firewall.parse_save(SAVED, "iptables")


def test_nft_rules_without_handles_and_counters() -> None:
    found = firewall.parse_nft(RULESET)
    assert {"nft ip filter NQR-FORWARD", "nft ip filter FORWARD", "nft ip filter OUTPUT", "nft ip nat POSTROUTING"} == (
        set(found)
    )
    busy = RULESET.replace('"packets": 0', '"packets": 9').replace('"handle": 2', '"handle": 77')
    assert firewall.parse_nft(busy) == found
    empty = json.dumps(
        {
            "nftables": [
                {"table": {"family": "ip", "name": "filter"}},
                {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "accept"}},
            ]
        }
    )
    assert firewall.parse_nft(empty) == {}  # `iptables -L` alone makes this


def test_package_states() -> None:
    status = _package("a") + "Package: b\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
    assert parse_dpkg(status, frozenset()) == {"a:amd64": "1-1 installed manual", "b:amd64": "config-files"}


def test_fingerprint_ignores_activating_and_on_demand_units() -> None:
    listed = (
        "a.service loaded active running A\n● b.service loaded failed failed B\n"
        "c.service loaded activating start C\nuser@0.service loaded active running U\n"
        "systemd-hostnamed.service loaded active running H\n"
    )
    assert units.parse_units(listed) == {"a.service": "active", "b.service": "failed"}


# --- ours


def test_fingerprint_finds_no_product_traces_on_a_clean_host() -> None:
    host = machine()
    host.memory["units"] = ""
    host.put("/proc/50/comm", "sshd")
    host.put("/proc/50/cmdline", "sshd\0-D\0")
    host.put("/proc/50/environ", "HOME=/\0")
    host.put("/proc/50/cgroup", "0::/system.slice/ssh.service\n")
    assert ours(host, Layout()) == []


def test_fingerprint_finds_everything_of_the_product() -> None:
    host = machine()
    host.memory["units"] = "nqrust-agent.service loaded active running Agent\nnqrust-ui.service not-found inactive dead x\n"
    host.memory["rules"] = SAVED
    for number, name in enumerate(("nqrust", "nqrust-ui"), 990):
        host.add_user(name, number)
    host.put("/opt/nqrust-microvm/bin/agent", "")
    host.put("/etc/sudoers.d/nqrust", "")
    host.put("/etc/modules", "# BEGIN nqrust-microvm\nkvm\n# END nqrust-microvm\n")
    host.put("/sys/class/net/br7/ifalias", "nqrust-microvm\n")
    host.put("/sys/class/net/tap0123456789a/ifindex", "9\n")
    host.put("/srv/fc/vms/1/disk", "")
    host.put("/proc/60/comm", "qemu-system-x86")
    host.put("/proc/60/environ", "NQRUST_SCOPE=fc-1234\0")
    host.put("/proc/61/comm", "dnsmasq")
    host.put("/proc/61/cmdline", "dnsmasq\0--conf-file=/etc/nqrust-microvm/dnsmasq.conf\0")
    host.put("/proc/62/comm", "python3")
    host.put("/proc/62/cgroup", "0::/system.slice/nqrust-manager.service\n")
    host.put("/proc/63/comm", "nqr")  # the uninstaller itself
    host.put("/proc/63/cmdline", "/opt/nqrust-microvm/installer/venv/bin/python\0nqr\0")
    host.remove_tree("/proc/self")
    host.put_symlink("63", "/proc/self")
    assert ours(host, Layout()) == [
        "path /opt/nqrust-microvm",
        "path /etc/sudoers.d/nqrust",
        "block in /etc/modules",
        "unit nqrust-agent.service (active)",
        *("user nqrust", "user nqrust-ui", "group nqrust", "group nqrust-ui"),
        "link br7 (nqrust-microvm)",
        "link tap0123456789a",
        "chain iptables filter NQR-FORWARD",
        "rule in iptables filter FORWARD: -m comment --comment nqrust -j NQR-FORWARD",
        "process 60 qemu-system-x86 of fc-1234",
        "process 61 dnsmasq",
        "process 62 python3 in nqrust-manager.service",
    ]
    assert "path /srv/fc" in ours(host, Layout(), data=True)


# --- this machine


def test_two_fingerprints_of_one_machine_are_equal(tmp_path: Path) -> None:
    host = LocalHost()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("x")
    (tmp_path / "a/link").symlink_to("file")
    unread: list[str] = []
    first = files.take(host, unread, (str(tmp_path),))
    assert first == files.take(host, unread, (str(tmp_path),)) and unread == []
    assert sorted(first) == [str(tmp_path / name) for name in ("", "a", "a/file", "a/link")]

"""Drivers: QEMU's command line and monitor, and the choice of the VMM."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent.errors import Failed
from nqrust.agent.vmm.port import Machine, RunState
from nqrust.agent.vmm.qemu.arguments import arguments
from nqrust.agent.vmm.qemu.driver import Qemu
from nqrust.agent.vmm.qemu.qmp import Qmp, QmpError, QmpGone
from nqrust.agent.vmm.verdict import Verdict, decide, parse
from nqrust.contract.vms import RateLimits
from nqrust.host.local import LocalHost

MACHINE = Machine(
    id="a1",
    name="web1",
    vcpus=2,
    memory_mib=256,
    directory="/srv/fc/vms/a1",
    disk="/srv/fc/vms/a1/disk.ext4",
    kernel="/srv/fc/images-cache/k",
    initrd="/srv/fc/images-cache/i",
    cmdline="quiet",
    mac="06:4e:00:00:00:01",
    tap="tap0123456789a",
    user=1_900_000_000,
    accel="tcg",
)

GOLDEN_TCG = """
/usr/bin/qemu-system-x86_64 -name guest=web1 -nodefaults -no-user-config -display none -no-reboot -S
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-machine q35,accel=tcg -smp 2 -m 256M
-kernel /srv/fc/images-cache/k -initrd /srv/fc/images-cache/i
-append console=ttyS0~reboot=k~panic=1~root=/dev/vda~rw~no_timer_check~quiet
-drive if=none,id=disk0,format=raw,file=/srv/fc/vms/a1/disk.ext4,werror=enospc,rerror=report -device virtio-blk-pci,drive=disk0
-netdev tap,id=net0,ifname=tap0123456789a,script=no,downscript=no,vnet_hdr=off
-device virtio-net-pci,netdev=net0,mac=06:4e:00:00:00:01,romfile=
-device virtio-rng-pci -chardev stdio,id=console,signal=off -serial chardev:console
-qmp unix:/srv/fc/vms/a1/run/qmp.sock,server=on,wait=off
"""


def golden(text: str) -> tuple[str, ...]:
    return tuple(word.replace("~", " ") for word in text.split())


def test_qemu_under_emulation() -> None:
    assert arguments("/usr/bin/qemu-system-x86_64", MACHINE) == golden(GOLDEN_TCG)


def test_qemu_under_kvm_passes_the_cpu_through() -> None:
    from dataclasses import replace

    argv = arguments("/usr/bin/qemu-system-x86_64", replace(MACHINE, accel="kvm", initrd=None))
    expected = GOLDEN_TCG.replace("q35,accel=tcg", "q35,accel=kvm -cpu host,-arch-capabilities").replace("no_timer_check~", "")
    expected = expected.replace("-initrd /srv/fc/images-cache/i", "")
    assert argv == golden(expected)


def test_volumes_follow_the_vms_own_disk() -> None:
    from dataclasses import replace

    argv = arguments("/usr/bin/qemu-system-x86_64", replace(MACHINE, volumes=("/v/vdb.raw", "/v/vdc.raw")))
    drives = [word for word in argv if word.startswith(("if=none", "virtio-blk-pci"))]
    assert [word.partition(",werror")[0].rpartition("=")[2] for word in drives] == [
        "/srv/fc/vms/a1/disk.ext4",
        "disk0",
        "/v/vdb.raw",
        "0x6",
        "/v/vdc.raw",
        "0x7",
    ]
    assert drives[3] == "virtio-blk-pci,drive=disk1,addr=0x6", "slots of their own: the NIC's stays the same without them"


def test_only_a_vm_with_commands_has_a_port_and_it_moves_no_other_device() -> None:
    from dataclasses import replace

    plain = arguments("/usr/bin/qemu-system-x86_64", MACHINE)
    argv = arguments("/usr/bin/qemu-system-x86_64", replace(MACHINE, guest_exec=True))
    at = next(at for at, (one, other) in enumerate(zip(plain, argv, strict=False)) if one != other)
    added = argv[at : at + len(argv) - len(plain)]
    assert (*argv[:at], *argv[at + len(added) :]) == plain
    assert [word for word in added if not word.startswith("-")] == [
        "virtio-serial-pci,id=guest,max_ports=2,addr=0x1e",
        "socket,id=guest,path=/srv/fc/vms/a1/run/guest.sock,server=on,wait=off",
        "virtserialport,bus=guest.0,chardev=guest,name=org.nqrust.guest.0",
    ]


def test_a_snapshot_decides_whether_its_machine_has_the_port(tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "board").write_text("pc-q35-7.2\n")
    host = LocalHost()
    for made, found in ((False, False), (True, True)):
        if made:
            (tmp_path / "guest").touch()
        for wanted in (False, True):
            argv = Qemu(host).argv(replace(MACHINE, snapshot=str(tmp_path), guest_exec=wanted))
            assert any("org.nqrust.guest.0" in word for word in argv) == found


def test_a_link_is_not_the_port_of_a_guest(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    elsewhere = tmp_path / "elsewhere"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(elsewhere))
        server.listen()
        (tmp_path / "run" / "guest.sock").symlink_to(elsewhere)
        with pytest.raises(OSError):
            Qemu(LocalHost()).connect_guest(str(tmp_path))
        (tmp_path / "run" / "guest.sock").unlink()
        elsewhere.rename(tmp_path / "run" / "guest.sock")
        Qemu(LocalHost()).connect_guest(str(tmp_path)).close()


def test_limits_are_of_each_disk() -> None:
    from dataclasses import replace

    machine = replace(MACHINE, volumes=("/v/vdb.raw",), rate_limits=RateLimits(disk_kib=1024, disk_iops=50, net_rx_kbit=64))
    drives = [word for word in arguments("/usr/bin/qemu-system-x86_64", machine) if word.startswith("if=none")]
    assert len(drives) == 2
    assert all(
        word.endswith(".ext4,werror=enospc,rerror=report,throttling.bps-total=1048576,throttling.iops-total=50")
        for word in drives[:1]
    )
    assert drives[1].endswith("vdb.raw,werror=enospc,rerror=report,throttling.bps-total=1048576,throttling.iops-total=50")


def test_a_guest_from_a_snapshot_gets_the_board_it_had_and_waits_for_its_memory(tmp_path: Path) -> None:
    from dataclasses import replace

    host = FakeHost.debian12()
    host.install("qemu-system-x86_64")
    for folder in ("/s", "/s/one", "/s/two"):
        host.mkdir(folder)
    host.write_file("/s/one/board", b"pc-q35-7.2\n")
    host.write_file("/s/two/board", b"q35,kernel-irqchip=off\n")
    argv = Qemu(host).argv(replace(MACHINE, snapshot="/s/one"))
    assert "pc-q35-7.2,accel=tcg" in argv
    assert argv[-2:] == ("-incoming", "defer")
    host.write_file("/s/one/plain", b"")
    netdevs = [
        next(word for word in args if word.startswith("tap,"))
        for args in (argv, Qemu(host).argv(replace(MACHINE, snapshot="/s/one")))
    ]
    assert [word.rpartition(",")[2] for word in netdevs] == ["vnet_hdr=on", "vnet_hdr=off"], "QEMU loads no other"
    for bad in ("/s/two", "/s/three"):
        with pytest.raises(Failed) as failed:
            Qemu(host).argv(replace(MACHINE, snapshot=bad))
        assert failed.value.code == "NQR-VMM-116"


def test_a_disk_that_gets_another_name_keeps_one_for_qemu() -> None:
    from dataclasses import replace

    host = FakeHost.debian12()
    host.put("/usr/bin/qemu-system-x86_64", mode=0o755)
    moving = replace(MACHINE, disk="/srv/fc/vms/a1/disk.ext4.new", disk_moves=True)
    for machine, opened, shown in (
        (MACHINE, MACHINE.disk, ()),
        (moving, "/srv/fc/vms/a1/drive0", ((moving.disk, "/srv/fc/vms/a1/drive0"),)),
    ):
        argv = Qemu(host).argv(machine)
        assert [w.partition("file=")[2].partition(",")[0] for w in argv if w.startswith("if=none")] == [opened]
        assert Qemu(host).mounts(machine) == shown


def test_a_host_without_qemu_says_so() -> None:
    with pytest.raises(Failed) as failed:
        Qemu(FakeHost.debian12()).argv(MACHINE)
    assert failed.value.code == "NQR-VMM-101"


@pytest.mark.parametrize(
    ("choice", "found", "expected"),
    [
        ("auto", None, ("qemu", "tcg")),
        ("auto", Verdict("qemu", "tcg", "canary hung"), ("qemu", "tcg")),
        ("auto", Verdict("firecracker", "kvm", "canary booted"), ("firecracker", "kvm")),
        ("qemu", Verdict("firecracker", "kvm", "canary booted"), ("qemu", "kvm")),
        ("qemu", None, ("qemu", "tcg")),
        ("firecracker", None, ("firecracker", "kvm")),
    ],
)
def test_the_vmm_follows_the_setting_and_the_canary(choice: str, found: Verdict | None, expected: tuple[str, str]) -> None:
    decided = decide(choice, found)
    assert (decided.vmm, decided.accel) == expected
    assert decided.reason


@pytest.mark.parametrize("text", ["", "{", "[]", '{"vmm":"xen","accel":"kvm"}', '{"vmm":"firecracker","accel":"tcg"}', "null"])
def test_a_verdict_that_is_none_is_not_believed(text: str) -> None:
    assert parse(text) is None


class FakeMonitor:
    """Speak QMP like QEMU: a greeting, capabilities first, events in between, one client at a time."""

    def __init__(self, path: Path) -> None:
        self.status, self.commands, self.said = "running", list[str](), list[dict[str, object]]()
        self.migration = "completed"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(4)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                self._converse(client)

    def _converse(self, client: socket.socket) -> None:
        asked: dict[str, object] = {}

        def say(message: dict[str, object]) -> None:
            answered = {"id": asked["id"]} if "id" in asked and "event" not in message else {}
            client.sendall(json.dumps({**message, **answered}).encode() + b"\r\n")

        say({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}})
        negotiated = False
        while data := client.recv(65536):  # one command; the space before `getfd` carries the descriptor
            if not data.strip():
                continue
            asked = json.loads(data)
            name = asked["execute"]
            self.commands.append(name)
            self.said.append(asked.get("arguments", {}))
            if name == "qmp_capabilities":
                negotiated = True
            elif not negotiated:
                say({"error": {"class": "CommandNotFound", "desc": "Expecting capabilities negotiation"}})
                continue
            elif name == "stop":
                self.status = "paused"
                say({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}})
            elif name == "cont":
                self.status = "running"
            elif name == "qom-get":
                say({"return": "pc-q35-7.2-machine"})
                continue
            elif name == "query-migrate":
                say({"return": {"status": self.migration}})
                continue
            elif name == "query-status":
                say({"return": {"status": self.status, "running": self.status == "running"}})
                continue
            say({"return": {}})

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[FakeMonitor]:
    (tmp_path / "run").mkdir()
    fake = FakeMonitor(tmp_path / "run" / "qmp.sock")
    yield fake
    fake.close()


def test_pause_resume_and_power_button_go_over_qmp(monitor: FakeMonitor, tmp_path: Path) -> None:
    qemu, directory = Qemu(LocalHost()), str(tmp_path)
    assert qemu.state(directory) is RunState.running
    qemu.pause(directory)
    assert qemu.state(directory) is RunState.paused
    qemu.resume(directory)
    assert qemu.state(directory) is RunState.running
    qemu.shut_down(directory)
    assert monitor.commands[-1] == "system_powerdown"


def test_limits_change_over_qmp(monitor: FakeMonitor, tmp_path: Path) -> None:
    Qemu(LocalHost()).limit(str(tmp_path), 1, RateLimits(disk_kib=64))
    rates = {"bps": 65536, "iops": 0, "bps_rd": 0, "bps_wr": 0, "iops_rd": 0, "iops_wr": 0}
    assert [said for said in monitor.said if said] == [{"device": "disk0", **rates}, {"device": "disk1", **rates}]


def test_a_guest_is_saved_through_a_file_that_qemu_did_not_open(monitor: FakeMonitor, tmp_path: Path) -> None:
    monitor.status = "postmigrate"
    Qemu(LocalHost()).snapshot(str(tmp_path), str(tmp_path), 0, 1 << 20)
    assert (tmp_path / "board").read_text() == "pc-q35-7.2\n"
    assert (tmp_path / "memory").stat().st_mode & 0o777 == 0o600
    asked = [name for name in monitor.commands if name not in ("qmp_capabilities", "query-migrate")]
    assert asked == ["query-status", "cont", "stop", "qom-get", "migrate-set-parameters", "getfd", "migrate"]


def test_a_guest_that_cannot_be_saved_says_so(monitor: FakeMonitor, tmp_path: Path) -> None:
    monitor.migration = "failed"
    with pytest.raises(Failed) as failed:
        Qemu(LocalHost()).snapshot(str(tmp_path), str(tmp_path), 0, 1 << 20)
    assert failed.value.code == "NQR-VMM-116"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("postmigrate", RunState.paused),
        ("finish-migrate", RunState.paused),
        ("inmigrate", RunState.unconfigured),
        ("prelaunch", RunState.unconfigured),
        ("running", RunState.running),
        ("io-error", RunState.no_room),
    ],
)
def test_what_qemu_says_while_it_is_saved_and_loaded(monitor: FakeMonitor, tmp_path: Path, status: str, state: RunState) -> None:
    monitor.status = status
    assert Qemu(LocalHost()).state(str(tmp_path)) is state


def test_a_monitor_that_is_gone_is_silent_and_an_error_when_needed(tmp_path: Path) -> None:
    qemu = Qemu(LocalHost())
    assert qemu.state(str(tmp_path)) is RunState.silent
    with pytest.raises(Failed) as failed:
        qemu.pause(str(tmp_path))
    assert failed.value.code == "NQR-VMM-105"


def conversation(path: Path, *answers: str, ends: bool = True) -> None:
    """Give one client each of `answers` for its requests. Then close the connection, or leave it waiting."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)

    def converse() -> None:
        client, _ = server.accept()
        server.close()
        client.sendall(b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}\r\n')
        for answer in answers:
            asked = json.loads(client.recv(65536))
            client.sendall((answer % json.dumps(asked.get("id")) if "%s" in answer else answer).encode() + b"\r\n")
        client.recv(65536)
        if ends:
            client.close()
        else:
            client.recv(65536)

    threading.Thread(target=converse, daemon=True).start()


NEGOTIATED = '{"return": {}}'


def test_a_qemu_that_went_away_is_told_from_one_that_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    with pytest.raises(QmpGone, match="No such file"):
        Qmp(str(path)).__enter__()
    conversation(path, NEGOTIATED)
    with Qmp(str(path)) as qmp, pytest.raises(QmpGone):
        qmp.execute("query-status")
    path.unlink()
    conversation(path, NEGOTIATED, ends=False)
    with Qmp(str(path), timeout=0.3) as qmp:
        with pytest.raises(QmpError, match="query-status: no answer in time") as silent:
            qmp.execute("query-status")
        assert not isinstance(silent.value, QmpGone)
        with pytest.raises(QmpError):
            qmp.execute("stop")  # the conversation had its time


def test_what_qemu_refuses_is_said_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    conversation(tmp_path / "run" / "qmp.sock", NEGOTIATED, '{"error": {"class": "GenericError", "desc": "not now"}, "id": %s}')
    with pytest.raises(Failed) as failed:
        Qemu(LocalHost()).pause(str(tmp_path))
    assert failed.value.code == "NQR-VMM-105" and "stop: not now" in str(failed.value)


@pytest.mark.parametrize("wrong", ["{", "[1]", '{"return": {}, "id": "another"}'])
def test_an_answer_that_is_none_is_no_answer(tmp_path: Path, wrong: str) -> None:
    conversation(tmp_path / "qmp.sock", NEGOTIATED, wrong)
    assert Qemu(LocalHost()).state(str(tmp_path)) is RunState.silent

"""Unit files and the output of systemctl."""

from __future__ import annotations

import dataclasses

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import HostError, ProgramMissing
from nqrust.installer.supervisor.spec import Hardening, Restart, ServiceSpec
from nqrust.installer.supervisor.systemd import SYSTEMD, exec_line, parse_show, quoted

SPEC = ServiceSpec(
    "nqrust-manager",
    "Manager",
    ("/opt/x/bin/manager", "--flag", "a b"),
    user="nqrust",
    group="nqrust",
    env_file="/etc/x/manager.env",
    after=("network-online.target", "postgresql.service", "nqrust-network"),
    read_write=("/srv/images",),
)
RUNNING = (
    "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=no\n"
    "Result=success\nActiveEnterTimestampMonotonic=900000000\n"
)


def test_service_without_privileges() -> None:
    text = SYSTEMD.render(SPEC)
    for line in (
        "After=network-online.target postgresql.service nqrust-network.service",
        "User=nqrust",
        "EnvironmentFile=/etc/x/manager.env",
        'ExecStart=/opt/x/bin/manager --flag "a b"',
        "Restart=always",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "ReadWritePaths=/srv/images",
        "WantedBy=multi-user.target",
    ):
        assert line in text.splitlines(), line


def test_memory_has_a_limit_where_the_service_asks_for_one() -> None:
    assert "MemoryMax=512M" in SYSTEMD.render(dataclasses.replace(SPEC, memory_mib=512)).splitlines()
    assert "MemoryMax" not in SYSTEMD.render(SPEC)


def test_a_service_waits_for_the_file_systems_of_its_folders() -> None:
    lines = SYSTEMD.render(dataclasses.replace(SPEC, folders=("/srv/fc", "/srv/images"))).splitlines()
    assert "RequiresMountsFor=/srv/fc /srv/images" in lines[: lines.index("[Service]")]
    odd = SYSTEMD.render(dataclasses.replace(SPEC, folders=("/srv/fc", "/nas/of mine", "/nas/100%"))).splitlines()
    assert 'RequiresMountsFor=/srv/fc "/nas/of mine" "/nas/100%%"' in odd, "a link may lead there"
    assert "RequiresMountsFor" not in SYSTEMD.render(SPEC)


def test_a_service_goes_on_when_a_program_of_it_runs_out_of_memory() -> None:
    assert "OOMPolicy=continue" in SYSTEMD.render(SPEC).splitlines()
    assert "OOMPolicy" not in SYSTEMD.render(dataclasses.replace(SPEC, oneshot=True)), "nothing of it runs on"


def test_service_that_uses_sudo_keeps_what_sudo_needs() -> None:
    text = SYSTEMD.render(ServiceSpec("m", "M", ("/m",), user="nqrust", hardening=Hardening.sudo))
    assert "ProtectSystem=strict" in text
    # systemd.exec(5): each of these implies NoNewPrivileges= for a user without CAP_SYS_ADMIN
    for word in (
        "NoNewPrivileges",
        "Restrict",
        "PrivateDevices",
        "ProtectKernel",
        "SystemCall",
        "LockPersonality",
    ):
        assert word not in text


def test_stopping_the_agent_unit_kills_no_child() -> None:
    spec = ServiceSpec("a", "A", ("/a",), hardening=Hardening.host, keeps_children=True)
    text = SYSTEMD.render(spec)
    assert "KillMode=process" in text
    assert "PrivateTmp" not in text and "ProtectSystem" not in text and "User=" not in text


def test_vms_inherit_nothing_from_the_agent_that_stops_them() -> None:
    lines = SYSTEMD.render(ServiceSpec("a", "A", ("/a",), hardening=Hardening.host)).splitlines()
    keys = {line.partition("=")[0] for line in lines}
    # mount namespaces, the device list that ProtectClock= brings, and the memory that emulation writes and executes
    assert not keys & {"ProtectKernelLogs", "ProtectKernelModules", "ProtectClock", "PrivateDevices", "PrivateMounts"}
    assert not keys & {"RestrictNamespaces", "MemoryDenyWriteExecute", "NoNewPrivileges", "ReadWritePaths"}
    assert {"LockPersonality=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "SystemCallErrorNumber=EPERM"} <= set(lines)
    (dropped,) = [line for line in lines if line.startswith("CapabilityBoundingSet=~")]
    assert "CAP_SYS_TIME" in dropped
    for needed in ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_SYS_CHROOT"):
        assert needed not in dropped, "modprobe ifb, mounts of disks and TAPs need it"


def test_a_strict_service_has_the_capabilities_that_it_names() -> None:
    lines = SYSTEMD.render(ServiceSpec("d", "D", ("/d",), capabilities=("CAP_NET_RAW", "CAP_SETUID"))).splitlines()
    assert "CapabilityBoundingSet=CAP_NET_RAW CAP_SETUID" in lines and "NoNewPrivileges=yes" in lines
    assert "SystemCallFilter=@system-service" in lines and "SystemCallFilter=~@privileged @resources" not in lines
    assert "SystemCallFilter=~@privileged @resources" in SYSTEMD.render(SPEC).splitlines()


def test_oneshot_stays_active_and_has_its_way_back() -> None:
    spec = ServiceSpec("n", "N", ("/up",), oneshot=True, stop_argv=("/down",), restart=Restart.never)
    text = SYSTEMD.render(spec)
    assert "Type=oneshot\nRemainAfterExit=yes" in text and "ExecStop=/down" in text and "Restart" not in text


@pytest.mark.parametrize(
    "argument, written",
    [("a", "a"), ("a b", '"a b"'), ("100%", '"100%%"'), ('a"b', '"a\\"b"'), ("", '""'), ("a\\b", '"a\\\\b"')],
)
def test_quoting(argument: str, written: str) -> None:
    assert quoted(argument) == written


def test_variables_of_argv_are_not_expanded() -> None:
    assert exec_line(("/bin/x", "$HOME")) == '/bin/x "$$HOME"'


def test_state_running() -> None:
    state = parse_show(RUNNING, now=5000.0, monotonic=1000.0)
    assert state.known and state.enabled and state.active and not state.failed and state.since == 4900.0


@pytest.mark.parametrize(
    "text, known, active, failed, blocked",
    [
        ("LoadState=not-found\nActiveState=inactive\n", False, False, False, False),
        ("LoadState=masked\nActiveState=inactive\nUnitFileState=masked\n", True, False, False, True),
        ("LoadState=loaded\nActiveState=failed\nResult=exit-code\n", True, False, True, False),
        ("LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n", True, False, False, False),
        ("", False, False, False, False),
    ],
)
def test_other_states(text: str, known: bool, active: bool, failed: bool, blocked: bool) -> None:
    state = parse_show(text, now=5000.0, monotonic=1000.0)
    assert (state.known, state.active, state.failed, state.blocked) == (known, active, failed, blocked)
    assert state.since is None


def test_no_systemctl_is_a_state_and_no_error() -> None:
    host = FakeHost.debian12()
    host.on("systemctl", prefix=True, answer=ProgramMissing("systemctl"))
    assert not SYSTEMD.state(host, "x").known


def test_the_states_of_several_services_come_from_one_question() -> None:
    host = FakeHost.debian12()
    stopped = RUNNING.replace("ActiveState=active", "ActiveState=inactive")
    host.on("systemctl", "show", prefix=True, answer=f"{RUNNING}\n{stopped}")
    looked = SYSTEMD.looked(host, ["a", "b.socket"])
    assert [looked.state(host, name).active for name in ("a", "b.socket", "a.service")] == [True, False, True]
    assert [cmd.argv[-2:] for cmd in host.commands] == [("a.service", "b.socket")]
    assert not SYSTEMD.seen, "the supervisor itself still asks"


@pytest.mark.parametrize("answer", [RUNNING, HostError("no bus"), ""])
def test_services_are_asked_one_by_one_if_systemd_does_not_answer_for_all(answer: object) -> None:
    host = FakeHost.debian12()
    host.on("systemctl", "show", prefix=True, answer=answer)
    assert SYSTEMD.looked(host, ["a", "b"]).seen == {}
    assert SYSTEMD.looked(host, []).seen == {}

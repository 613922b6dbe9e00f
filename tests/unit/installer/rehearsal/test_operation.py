"""A rehearsal on a host in memory: refusals, the handling of the clone's messages, and no leftovers."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases import a_host

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import CommandFailed, PathError
from nqrust.host.facts.model import Link, Network, Route
from nqrust.host.port import Command, DiskUsage, Stat
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import NqrError, PreflightRefused
from nqrust.installer.engine.events import Event, Notice, Reporter
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.rehearsal import means
from nqrust.installer.rehearsal.operation import carry_out
from nqrust.installer.rehearsal.spec import CloneSpec, Uplink
from nqrust.installer.rehearsed import Group, WrittenPath, groups
from nqrust.installer.reporting.jsonl import summary_object
from nqrust.installer.reporting.rehearsal import rehearsal_lines
from nqrust.installer.reporting.wording import headline
from nqrust.installer.request import PhasePreview, PlanPreview, Request, StepPreview, Summary
from nqrust.installer.settings.model import Settings

SUMMARY = {
    "type": "summary", "outcome": "ok", "changed": 3, "satisfied": 1, "exit_code": 0, "seconds": 9.0,
    "phases": [{"name": "deps", "changed": 3, "seconds": 8.5}], "urls": {"manager": "http://127.0.0.1:18080"},
    "proofs": [{"hop": "binaries", "verdict": "passed", "detail": "", "code": "", "cure": "", "seconds": 0.1}],
}  # fmt: skip
GOOD: list[dict[str, Any]] = [
    {"type": "clone_started", "left_out": ["/mnt/odd"]},
    {"type": "phase_started", "name": "preflight", "title": "Checking this host", "steps": 0, "skipped": ""},
    {"type": "notice", "severity": "warning", "text": "told by the host already", "code": "NQR-PRE-008", "cure": ""},
    {"type": "phase_finished", "name": "preflight", "changed": 0, "satisfied": 0, "seconds": 0.1},
    {"type": "notice", "severity": "warning", "text": "new in the clone", "code": "", "cure": ""},
    SUMMARY,
    {"type": "clone_measured", "section": "users", "sign": "+", "key": "nqrust", "text": "+ nqrust (998)"},
    {"type": "clone_done", "code": 0, "seconds": 9.5},
    {"type": "clone_written", "sign": "+", "path": "/opt/nqrust-microvm/bin/manager", "size": 2048},
    {"type": "clone_written", "sign": "~", "path": "/etc/passwd", "size": 1000},
]  # fmt: skip


class Heard(Reporter):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.texts.append(event.text)


def lines(found: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in found)


@pytest.fixture
def host() -> FakeHost:
    made = FakeHost()
    for folder in ("/proc", "/var/cache", "/etc"):
        made.put_directory(folder)
    made.put_symlink("7", "/proc/self")
    made.put("/etc/resolv.conf", "nameserver 192.0.2.53\n")
    return made


def foreseen(request: Request, events: Reporter) -> Summary:
    step = StepPreview("deps.packages", "packages", "install packages")
    return Summary("ok", 0, preview=PlanPreview(phases=(PhasePreview("deps", "Packages", (step,)),)))


def rehearsed(host: FakeHost, answer: object, events: Reporter | None = None, supervisor: str = "systemd") -> Summary:
    host.on("systemd-run", prefix=True, answer=answer)
    facts = a_host.fit(supervisor=supervisor)
    return carry_out(
        host, facts, Request(Settings()), ("install", "--mode=minimal"), events or Heard(), cwd="/root", plan=foreseen
    )


def test_report_shows_the_measurements_of_the_clone(host: FakeHost) -> None:
    events = Heard()
    found = rehearsed(host, lines(GOOD), events)
    assert (found.outcome, found.exit_code, found.changed) == ("ok", 0, 3)
    assert found.urls == {} and not found.admin_password_file, "nothing answers there once the clone is gone"
    assert found.rehearsal is not None and found.rehearsal.predicted == 1
    assert found.rehearsal.paths[1] == WrittenPath("~", "/etc/passwd", 1000)
    assert any("/mnt/odd" in text for text in found.rehearsal.unmeasured)
    assert "new in the clone" in events.texts and "told by the host already" not in events.texts
    told = "\n".join(text for _, text in rehearsal_lines(found.rehearsal, found))
    for words in (
        "/opt       1 created (2 KiB)",
        "+ nqrust (998)",
        "1 of 1 proof passed",
        "Foreseen by the plan: 1 change; made: 3",
    ):
        assert words in told
    document = summary_object(found)["rehearsal"]
    assert document["paths"][0] == {"sign": "+", "path": "/opt/nqrust-microvm/bin/manager", "bytes": 2048}


def test_a_clone_without_network_is_in_the_report(host: FakeHost) -> None:
    found = rehearsed(host, lines([{"type": "clone_without_network", "reason": "apt-get exited with 100"}, *GOOD]))
    assert found.rehearsal and "The clone had no network (apt-get exited with 100)." in found.rehearsal.unmeasured


def test_rehearsal_leaves_nothing_and_removes_rests_of_an_interrupted_one(host: FakeHost) -> None:
    host.put(f"{CACHE_DIR}/bootstrap/kept", "x")
    host.put(f"{CACHE_DIR}/rehearsal-dead/0/upper/etc/passwd", "x")
    before = host.state(ignore=(f"{CACHE_DIR}/rehearsal-dead",))
    rehearsed(host, lines(GOOD))
    assert host.state() == before


def test_rehearsal_leaves_no_new_cache(host: FakeHost) -> None:
    before = host.state()
    rehearsed(host, lines(GOOD))
    assert host.state() == before


def test_the_clone_is_told_by_standard_input_alone(host: FakeHost) -> None:
    host.variables = {"DB_PASSWORD": "hush", "NQR_MODE": "minimal", "NQR_REHEARSE": "1", "NQR_CRASH_AFTER_APPEND": "3"}
    seen: list[CloneSpec] = []

    def answer(host: FakeHost, cmd: Command) -> str:
        assert isinstance(cmd.input, Secret) and "hush" not in " ".join(cmd.argv)
        assert host.exists(CloneSpec.from_json(cmd.input.reveal()).scratch)
        seen.append(CloneSpec.from_json(cmd.input.reveal()))
        return lines(GOOD)

    rehearsed(host, answer)
    (spec,) = seen
    assert spec.work.environment == {"DB_PASSWORD": "hush", "NQR_MODE": "minimal"}
    assert spec.work.argv[-3:-1] == ("install", "--mode=minimal") and spec.work.cwd == "/root"
    assert spec.uplink.name == "eth0" and spec.uplink.addresses == ("192.0.2.10/24",)
    assert "192.0.2.10" in spec.refused and spec.boot and spec.memory_mib == 0 and spec.distro
    assert CloneSpec.from_json(spec.to_json()) == spec


def test_the_clone_gives_vms_the_network_that_an_install_would_choose(host: FakeHost) -> None:
    seen: list[CloneSpec] = []

    def answer(host: FakeHost, cmd: Command) -> str:
        assert isinstance(cmd.input, Secret)
        seen.append(CloneSpec.from_json(cmd.input.reveal()))
        return lines(GOOD)

    host.on("systemd-run", prefix=True, answer=answer)
    facts = a_host.fit(network=a_host.network(routes=(Route("10.0.0.0/16", "wg0"),)))
    carry_out(host, facts, Request(Settings()), ("install",), Heard(), cwd="/root", plan=foreseen)
    assert seen[0].work.argv[-3:-1] == ("install", "--network-cidr=10.127.0.0/24")


@pytest.mark.parametrize(
    ("summary", "exit_code", "code"),
    [
        ({"exit_code": 4, "error": {"code": "NQR-VER-001", "what": "w", "cure": "c"}}, 4, "NQR-VER-001"),
        ({"exit_code": 5, "error": {"code": "NQR-DEP-003", "what": "w", "cure": "c"}}, 5, "NQR-DEP-003"),
        ({"exit_code": 3, "error": {"code": "NQR-PRE-021", "what": "w", "cure": "c"}}, 5, "NQR-PRE-021"),
        ({"exit_code": 1}, 5, "NQR-RHS-008"),
    ],
)
def test_rehearsal_exit_code_predicts_the_install(host: FakeHost, summary: dict[str, Any], exit_code: int, code: str) -> None:
    told = [one if one is not SUMMARY else {**SUMMARY, "outcome": "failed", **summary} for one in GOOD]
    found = rehearsed(host, lines(told))
    assert found.exit_code == exit_code and found.failure is not None and found.failure.code == code
    assert "clone" in headline("rehearsal", found) and "not touched" in headline("rehearsal", found)


def test_a_clone_that_cannot_be_made_is_a_refusal(host: FakeHost) -> None:
    before = host.state()
    said = lines([{"type": "clone_failed", "reason": "unshare: Operation not permitted"}])
    with pytest.raises(PreflightRefused, match=r"NQR-RHS-006.*Operation not permitted"):
        rehearsed(host, CommandFailed(("systemd-run",), 1, said))
    assert host.state() == before


def test_crashed_clone_is_a_failure(host: FakeHost) -> None:
    told = [GOOD[0], {"type": "clone_failed", "reason": "it ended before its work was done"}]
    with pytest.raises(NqrError, match=r"NQR-RHS-007.*came down"):
        rehearsed(host, lines(told))
    assert host.listdir("/var/cache") == []


def test_a_plan_that_is_refused_makes_no_clone(host: FakeHost) -> None:
    refused = Summary("refused", 3, failure=PreflightRefused("NQR-PRE-001", "w", "c"))
    found = carry_out(
        host, a_host.fit(), Request(Settings()), ("install",), Heard(), cwd="/", plan=lambda request, events: refused
    )
    assert found is refused and host.mutations == []


def test_writes_go_to_memory_where_no_disk_can_take_them(host: FakeHost) -> None:
    host.usage = DiskUsage(100 << 30, 80 << 30, 1_000_000, False, "overlay", "/")
    assert means.memory_needed(host, a_host.fit()) == 7000 - means.SPARE_MIB
    host.usage = DiskUsage(100 << 30, 1 << 30, 1_000_000, False, "ext4", "/")
    facts = a_host.fit(memory=type(a_host.fit().memory)(4096, 3000))
    with pytest.raises(PreflightRefused, match="NQR-RHS-005"):
        means.memory_needed(host, facts)


def test_rehearsal_refuses_settings_that_reach_other_machines(host: FakeHost) -> None:
    agent = Settings.model_validate({"mode": "agent", "agent": {"manager_base": "http://m:18080"}})
    remote = Settings.model_validate({"database": {"type": "remote", "host": "db.example"}})
    bridged = Settings.model_validate({"network": {"mode": "bridged", "bridge_name": "br0"}})
    for settings, code in ((agent, "NQR-RHS-002"), (remote, "NQR-RHS-003"), (bridged, "NQR-RHS-009")):
        with pytest.raises(PreflightRefused, match=code):
            means.refuse_what_would_reach_out(settings, Receipt())
    means.refuse_what_would_reach_out(Settings(), Receipt())
    with pytest.raises(PreflightRefused, match="NQR-RHS-004"):
        means.refuse_without_card(host)
    host.put_device("/dev/net/tun")
    means.refuse_without_card(host)


def test_a_bundle_is_rehearsed_without_a_way_out(host: FakeHost) -> None:
    settings = Settings.model_validate({"release": {"source": "/mnt/nqrust.tar.zst"}})
    means.refuse_what_would_reach_out(settings, Receipt())
    given: dict[str, Any] = {"scratch": "/s", "memory_mib": 0, "arguments": (), "environment": {}, "cwd": "/", "limit": 1.0}
    spec, notes = means.describe(host, a_host.fit(), connected=False, **given)
    assert not spec.connected and any("a bundle needs none" in note for note in notes)
    spec, notes = means.describe(host, a_host.fit(), **given)
    assert spec.connected and not any("bundle" in note for note in notes)


def test_a_resolver_on_loopback_is_reached_by_another_address(host: FakeHost) -> None:
    host.put("/etc/resolv.conf", "nameserver 127.0.0.53\nnameserver ::1\nsearch lan\n")
    found, _ = means.describe(host, a_host.fit(), scratch="/s", memory_mib=0, arguments=(), environment={}, cwd="/", limit=1.0)
    assert found.resolver == "nameserver 169.254.77.3\nsearch lan\n" and found.loopback_resolver == "127.0.0.53"


def test_the_card_is_named_as_the_settings_name_the_uplink(host: FakeHost) -> None:
    facts = a_host.fit(
        network=a_host.network(Link("eth1", "", True, "52:54:00:00:00:02", addresses=("198.51.100.7/24", "fe80::1/64")))
    )
    found, notes = means.describe(
        host, facts, scratch="/s", memory_mib=0, arguments=(), environment={}, cwd="/", limit=1.0, uplink="eth1"
    )
    assert found.uplink == Uplink("eth1", ("198.51.100.7/24",)) and "eth0" in notes[0]


def test_the_card_of_a_host_without_a_way_out_is_not_said_to_be_missing(host: FakeHost) -> None:
    facts = a_host.fit(network=Network((Link("host0", "", True, "52:54:00:00:00:02"),)))
    found, notes = means.describe(host, facts, scratch="/s", memory_mib=0, arguments=(), environment={}, cwd="/", limit=1.0)
    assert found.uplink.name == "host0" and not any("not host0" in note for note in notes)


def test_units_of_the_host_below_reached_targets_are_masked(host: FakeHost) -> None:
    host.put("/etc/systemd/system/local-fs.target.wants/srv-data.mount")
    host.put("/etc/systemd/system/multi-user.target.wants/postgresql.service")
    found, _ = means.describe(host, a_host.fit(), scratch="/s", memory_mib=0, arguments=(), environment={}, cwd="/", limit=1.0)
    assert "srv-data.mount" in found.masked and "postgresql.service" in found.wanted


def test_a_file_system_that_root_cannot_read_is_left_out_and_named(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user mounts it with fusermount, without allow_other."""
    host.put(
        "/proc/7/mountinfo",
        "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n26 25 0:50 / /home/u/mine rw,nosuid,nodev - fuse.sshfs far: rw,user_id=1000\n",
    )
    stat = host.stat

    def refusing(path: str) -> Stat | None:
        if path == "/home/u/mine":
            raise PathError(path, "Permission denied", errno.EACCES)
        return stat(path)

    monkeypatch.setattr(host, "stat", refusing)
    found, notes = means.describe(
        host, a_host.fit(), scratch="/s", memory_mib=0, arguments=(), environment={}, cwd="/", limit=1.0
    )
    assert [one.path for one in found.mounts] == ["/"]
    assert "/home/u/mine (a file system that root cannot read) was left out of the clone." in notes


def test_paths_are_counted_by_top_folder() -> None:
    found = groups([WrittenPath("+", "/opt/a", 3), WrittenPath("-", "/opt/b"), WrittenPath("~", "/etc/c", 4)])
    assert found == (Group("/etc", 0, 1, 0, 4), Group("/opt", 1, 0, 1, 3))

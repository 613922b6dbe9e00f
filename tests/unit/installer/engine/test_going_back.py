"""Going back: earlier services run again with their earlier files. Leftovers of scripts go; objects of others stay."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Completed
from nqrust.installer.engine.events import Event, Notice, NullReporter
from nqrust.installer.engine.forecast import forecast
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.rollback import RollbackResult, roll_back
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext, Verb, Verbs
from nqrust.installer.verbs.file.undo import undo_block, undo_directory, undo_file, undo_symlink
from nqrust.installer.verbs.firewall.undo import undo_rules
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.registry import VERBS, revert
from nqrust.installer.verbs.script import standing as standing_script
from nqrust.installer.verbs.script import whole as script
from nqrust.installer.verbs.service.undo import undo_unit

CONF = "/etc/app.conf"
ORIGINALS = "/var/lib/nqr/originals"


class Bench:
    def __init__(self) -> None:
        self.host = FakeHost.debian12()
        self.host.put_directory("/run/systemd/system")
        self.host.put_directory("/var/lib/nqr", mode=0o700)
        self.read_at_start: list[str] = []
        self.host.on("systemctl", prefix=True, changes=True)
        self.host.on(
            "systemctl", "restart", "app.service", changes=True,
            answer=lambda host, cmd: self.read_at_start.append(host.read_text(CONF)),
        )  # fmt: skip
        self.store = MemoryJournalStore()
        self.originals = Originals(self.host, ORIGINALS)

    def begin(self, step: str, *undos: Undo, run: str = "r") -> None:
        journal = Journal(self.store, self.host.now)
        if not journal.records:
            journal.append("run", run, verb="install", version="1", settings={}, resumes=[])
        named = {"id": step, "kind": "x", "phase": "p", "describe": step}
        kept = [VERBS.capture(self.originals, u).to_json() for u in undos]
        journal.append("begin", run, step=named, origin="modified", undo=kept)

    def back(self) -> RollbackResult:
        journal = Journal(self.store, self.host.now)
        context = UndoContext(self.host, self.originals)
        return roll_back(VERBS, context, journal, "u", Receipt.of(journal).entries, NullReporter())

    def ran(self, verb: str) -> int:
        return sum(cmd.argv[:2] == ("systemctl", verb) for cmd in self.host.commands)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def unit(active: bool) -> Undo:
    return undo_unit("systemd", "app.service", enabled=active, active=active)


def test_rollback_restarts_a_service_with_its_earlier_files(bench: Bench) -> None:
    bench.host.put(CONF, "old\n")
    bench.begin("file", undo_file(CONF, ours_sha256=None))
    bench.host.put(CONF, "new\n")
    bench.begin("service", unit(active=True))
    assert not bench.back().failed
    assert bench.read_at_start == ["old\n"]
    assert not Receipt.of(Journal(bench.store, bench.host.now)).entries


def test_systemd_forgets_unit_files_once_at_the_end(bench: Bench) -> None:
    for name in ("one", "two", "three"):
        bench.begin(name, undo_unit("systemd", f"{name}.service", enabled=False, active=False))
    bench.back()
    assert bench.ran("daemon-reload") == 1 and bench.ran("stop") == 3


def test_rollback_does_not_restart_a_service_that_the_installer_started(bench: Bench) -> None:
    bench.begin("first", unit(active=False))
    bench.begin("second", unit(active=True))
    bench.back()
    assert bench.read_at_start == [] and bench.ran("stop") == 1


def test_interrupted_removal_does_not_restart_the_service(bench: Bench) -> None:
    """Killed after its oldest record was reverted: its unit file is gone, so no plan or script may claim that it starts."""
    bench.begin("first", unit(active=False))
    bench.begin("second", unit(active=True))
    bench.begin("another", undo_unit("systemd", "db.service", enabled=True, active=True))
    journal = Journal(bench.store, bench.host.now)
    context, entries = UndoContext(bench.host, bench.originals), Receipt.of(journal).entries
    whole = script.render(context, entries, retain=lambda entry: False)
    journal.append("undone", "u", entry=entries[0].seq)
    entries = Receipt.of(journal).entries
    cut_off = script.render(context, entries, retain=lambda entry: False)
    standing = standing_script.render(
        context, context, entries, path="undo.sh", journal="journal", records=1, epilogue=lambda keep: ""
    )
    for text in (whole, cut_off, standing):
        assert "\nstart_unit db.service" in text and "\nstart_unit app.service" not in text
    foreseen = [line for _, seen in forecast(VERBS, context, entries) for line in seen.lines]
    assert foreseen == ["restart unit db.service as it was before"]
    assert not bench.back().failed and bench.read_at_start == [] and bench.ran("restart") == 1


def agent_before_rules(bench: Bench, active: bool) -> None:
    """The agent's record, then a newer one of the rules that it draws, as an upgrade leaves them."""
    bench.begin("service", undo_unit("systemd", "nqrust-agent.service", enabled=active, active=active))
    bench.begin("other", undo_unit("systemd", "nqrust-manager.service", enabled=active, active=active))
    bench.begin("rules", undo_rules("iptables", [["filter", "OUTPUT", "-j", "NQR-RELAY"]], [["filter", "NQR-RELAY"]]))


@pytest.mark.parametrize("active", [False, True])
def test_agent_rests_while_its_rules_are_reverted(bench: Bench, active: bool) -> None:
    agent_before_rules(bench, active)
    bench.host.on("iptables", prefix=True, answer=Completed((), 1, "", ""))
    assert not bench.back().failed
    ran = [cmd.argv for cmd in bench.host.commands]
    assert ran[0] == ("systemctl", "stop", "nqrust-agent.service")
    assert [argv[0] for argv in ran].index("iptables") < len(ran) - 1, "the rules are reverted after it"
    assert [argv[2] for argv in ran if argv[1] == "restart"] == ["nqrust-agent.service", "nqrust-manager.service"] * active


def test_agent_that_cannot_be_stopped_hinders_no_revert(bench: Bench) -> None:
    agent_before_rules(bench, active=True)
    bench.host.on("iptables", prefix=True, answer=Completed((), 1, "", ""))
    bench.host.on("systemctl", "stop", "nqrust-agent.service", changes=True, answer=HostError("it hangs"))
    assert not bench.back().failed


def test_both_scripts_stop_the_agent_before_anything_else(bench: Bench) -> None:
    agent_before_rules(bench, active=True)
    context, entries = UndoContext(bench.host, bench.originals), Receipt.of(Journal(bench.store, bench.host.now)).entries
    whole = script.render(context, entries, retain=lambda entry: False)
    standing = standing_script.render(
        context, context, entries, path="undo.sh", journal="journal", records=1, epilogue=lambda keep: ""
    )
    for text in (whole, standing):
        before, _, _ = text.partition("\n# undo: rules")
        assert before.endswith("\nstop_unit nqrust-agent.service 1 0\n"), before[-80:]


@pytest.mark.parametrize("at", range(1, 9))
def test_interrupted_rollback_still_restarts_the_service(bench: Bench, at: int) -> None:
    bench.host.put(CONF, "old\n")
    bench.begin("file", undo_file(CONF, ours_sha256=None))
    bench.host.put(CONF, "new\n")
    bench.begin("service", unit(active=True))
    bench.host.fail_at(at, KeyboardInterrupt())
    try:
        bench.back()
    except KeyboardInterrupt:
        pass
    bench.host.fail_at(10_000, KeyboardInterrupt())
    bench.back()
    assert bench.read_at_start[-1:] == ["old\n"]


def test_a_service_that_cannot_be_restarted_is_told(bench: Bench) -> None:
    bench.begin("service", unit(active=True))
    bench.host.on("systemctl", "restart", "app.service", answer=CommandFailed(("systemctl",), 3, "no"))
    assert "could not be restarted" in bench.back().failed[0]
    assert Receipt.of(Journal(bench.store, bench.host.now)).entries, "it is tried again"


def test_edits_moved_aside_survive_the_removal_of_their_folder(bench: Bench) -> None:
    host = bench.host
    host.put("/opt/tree/conf", "edited\n")
    context = UndoContext(host, bench.originals)
    revert(context, Undo("file", {"path": "/opt/tree/conf", "ours": "0" * 64, "prior": None}))
    assert isinstance(revert(context, undo_directory("/opt/tree", tree=True)), Kept)
    assert host.read_text("/opt/tree/conf.nqr-kept") == "edited\n"


# --- what package scripts leave


SCRIPTS = "adduser --system db\nmkdir -p /var/log/db /etc/db\nln -s x /etc/db-link\n"


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    for folder in ("/var/log", "/var/cache", "/opt"):
        if not host.exists(folder):
            host.put_directory(folder)
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    host.put("/etc/group", "root:x:0:\n")
    return host


def ran(host: FakeHost) -> dict[str, object]:
    """Run a transaction: package scripts work while an administrator works too."""
    before = traces.survey(host)
    host.put_directory("/var/log/db")
    host.put("/var/log/db/first.log", "log\n")
    host.put_directory("/etc/db")
    host.put("/etc/db/cluster", "made\n")
    host.symlink("x", "/etc/db-link")
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\ndb:x:101:101::/:/bin/false\nann:x:1001:1001::/:/bin/sh\n")
    host.put("/etc/mine.conf", "an administrator's\n")
    host.put_directory("/opt/mine")
    return traces.made(host, before, SCRIPTS, frozenset())


def test_rollback_removes_files_of_package_scripts_only(host: FakeHost) -> None:
    before = host.state(ignore=("/etc/passwd",))
    found = traces.unpack(traces.pack(ran(host)))
    assert found["users"] == ["db"]
    host.on("userdel", "db", changes=True)
    assert traces.remove(host, found, frozenset()) == []
    assert host.read_text("/etc/mine.conf") and host.exists("/opt/mine")
    host.remove("/etc/mine.conf")
    host.rmdir("/opt/mine")
    assert host.state(ignore=("/etc/passwd",)) == before


@pytest.mark.parametrize(
    ("there", "goes"),
    [
        (("PG_VERSION", "postmaster.pid"), True),  # as a killed initdb left it on a Debian 12
        (("PG_VERSION", "base/1/1259"), True),
        (("PG_VERSION", "base/16390/1259"), False),
    ],
)
@pytest.mark.parametrize("running", [False, True])
def test_rollback_removes_a_cluster_that_a_killed_package_script_left(
    host: FakeHost, there: tuple[str, ...], goes: bool, running: bool
) -> None:
    found = ran(host)
    host.on("userdel", "db", changes=True)
    for name in there:
        host.put(f"/var/log/db/15/main/{name}", "77\n/var/log/db/15/main\n")
    if running:
        host.put("/var/log/db/15/main/postmaster.pid", "77\n/var/log/db/15/main\n")
        host.put("/proc/77/comm", "postgres\n")
    left = traces.remove(host, found, frozenset())
    stays = running or not goes
    assert host.exists("/var/log/db/15/main/PG_VERSION") == stays
    assert [line for line in left if "holds 15, so it stays" in line] == (left if stays else [])


def test_rollback_keeps_and_reports_files_changed_since(host: FakeHost) -> None:
    found = ran(host)
    host.put("/etc/db/cluster", "edited\n")
    host.put("/var/log/db/added", "by somebody\n")
    host.on("userdel", "db", changes=True)
    left = traces.remove(host, found, frozenset())
    assert host.read_text("/etc/db/cluster") == "edited\n" and host.read_text("/var/log/db/added")
    assert not host.exists("/var/log/db/first.log")
    assert any("/etc/db/cluster" in line for line in left) and any("/var/log/db" in line for line in left)


def test_rollback_keeps_files_that_a_package_now_owns(host: FakeHost) -> None:
    found = ran(host)
    host.on("userdel", "db", changes=True)
    traces.remove(host, found, frozenset({"/var/log/db", "/var/log/db/first.log"}))
    assert host.exists("/var/log/db/first.log") and not host.exists("/etc/db")


def test_removing_twice_is_the_same_as_once(host: FakeHost) -> None:
    found = ran(host)
    host.on("userdel", "db", changes=True)
    traces.remove(host, found, frozenset())
    host.put_directory("/etc/db")
    host.put("/etc/db/other", "of a later owner\n")
    traces.remove(host, found, frozenset())
    assert host.read_text("/etc/db/other")


def test_rollback_keeps_things_that_a_later_package_uses(host: FakeHost) -> None:
    found = ran(host)
    left = traces.remove(host, found, frozenset(), "chown db /var/log/db\n")
    assert host.exists("/var/log/db") and not host.exists("/etc/db")
    assert any("db" in line and "another package" in line for line in left)


@pytest.mark.parametrize(
    "undo", [undo_file(CONF, ours_sha256=None), undo_block(CONF, "us"), undo_symlink(CONF, ours="/ours", prior=None)]
)
@pytest.mark.parametrize("there", [True, False])
def test_interrupted_write_leaves_no_temporary_file(bench: Bench, undo: Undo, there: bool) -> None:
    if there:
        bench.host.put(CONF, "theirs\n")
    bench.begin("one", undo)
    bench.host.put("/etc/.app.conf.nqr-new", "half of ou")
    assert not bench.back().failed
    assert not bench.host.exists("/etc/.app.conf.nqr-new")
    assert bench.host.exists(CONF) is there and (not there or bench.host.read_text(CONF) == "theirs\n")


def test_rollback_removes_packages_after_the_things_that_need_them() -> None:
    """A bridge that could not be deleted needs ip(8) again, which a package of nqr may contain."""
    bench = Bench()
    bench.host.put_directory("/sys/class/net/fcbr0")
    bench.begin("packages", Undo("packages", {"manager": "apt", "before": [], "manual": [], "config_only": []}))
    bench.begin("bridge", Undo("link", {"name": "fcbr0"}))
    bench.host.on(
        "ip", prefix=True, changes=True, answer=lambda host, cmd: (_ for _ in ()).throw(CommandFailed(cmd.argv, 2, "busy"))
    )
    result = bench.back()
    assert len(result.failed) == 2 and "packages stay until" in result.failed[1]
    assert not any(cmd.argv[0].startswith(("apt", "dpkg")) for cmd in bench.host.commands)


@pytest.mark.parametrize("verb", ["link", "module"])
def test_undo_without_its_program_waits_for_the_next_boot(verb: str) -> None:
    bench = Bench()
    bench.host.put_directory("/sys/class/net/x")
    bench.host.put_directory("/sys/module/x")
    for program in ("ip", "modprobe"):
        bench.host.uninstall(program)
    (outcome,) = (revert(UndoContext(bench.host, bench.originals), Undo(verb, {"name": "x"})),)
    assert isinstance(outcome, Kept) and "next boot" in outcome.why


def test_rollback_completes_when_a_file_owner_is_gone() -> None:
    bench = Bench()
    bench.host.add_user("alice", 1000)
    bench.host.put(CONF, "hers", mode=0o640, owner="alice", group="alice")
    bench.host.put_directory("/srv/hers", mode=0o700, owner="alice", group="alice")
    bench.begin("file", undo_file(CONF, ours_sha256=None))
    bench.begin("mode", Undo("mode", {"path": "/srv/hers", "mode": 0o700, "owner": "alice", "group": "alice"}))
    bench.host.write_file(CONF, b"ours", mode=0o644)
    bench.host.set_mode("/srv/hers", mode=0o755, owner="root", group="root")
    del bench.host.users["alice"]
    result = bench.back()
    assert not result.failed and len(result.kept) == 2 and all("alice is gone" in why for why in result.kept)
    assert bench.host.read_text(CONF) == "hers"
    stat = bench.host.stat("/srv/hers")
    assert stat is not None and (stat.mode, stat.owner) == (0o700, "root")


def test_an_undo_that_waits_says_so() -> None:
    """Silence of two minutes in an uninstall looks like an error."""
    heard: list[Event] = []

    class Listener:
        def emit(self, event: Event) -> None:
            heard.append(event)

    def revert(context: UndoContext, args: dict[str, Any]) -> Outcome:
        context.tell("Waiting until gateway 10.0.0.1 answers.")
        return Reverted()

    verbs = Verbs(Verb("patient", revert, lambda args: "", lambda context, args: iter(())))
    host = FakeHost.debian12()
    journal = Journal(MemoryJournalStore(), host.now)
    journal.append("run", "r", verb="install", version="1", settings={}, resumes=[])
    step = {"id": "s", "kind": "k", "phase": "p", "describe": "d"}
    journal.append("begin", "r", step=step, origin="modified", undo=[Undo("patient", {}).to_json()])
    roll_back(verbs, UndoContext(host, Originals(host, "/o")), journal, "u", Receipt.of(journal).entries, Listener())
    assert [event.text for event in heard if isinstance(event, Notice)] == ["Waiting until gateway 10.0.0.1 answers."]


def test_costly_revert_is_tried_once_in_a_run(bench: Bench) -> None:
    """Each run that was interrupted left a record of the same card, and each attempt takes the network away for some seconds."""
    tried: list[str] = []

    def fails(context: UndoContext, args: dict[str, Any]) -> Outcome:
        tried.append(args["link"])
        raise CommandFailed(("ip",), 1, "busy")

    card = Verb("card", fails, lambda args: "", lambda context, args: iter(()), once=lambda args: str(args["link"]))
    for link in ("eth0", "eth0", "eth1", "eth0"):
        bench.begin(link, Undo("card", {"link": link}))
    journal = Journal(bench.store, bench.host.now)
    context = UndoContext(bench.host, bench.originals)
    for number in (1, 2):
        result = roll_back(Verbs(card), context, journal, "u", Receipt.of(journal).entries, NullReporter())
        assert tried == ["eth0", "eth1"] * number, "the next run tries each once again"
        assert len(result.failed) == len(Receipt.of(journal).entries) == 4, "all records stay"

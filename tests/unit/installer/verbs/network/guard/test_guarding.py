"""A guarded change on a fake host: what is proven, who decides, and what is left."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from tests.unit.installer.verbs.network.guard.sample import NEW, OLD, Site, established

from nqrust.contract import paths
from nqrust.host.errors import CommandFailed, NoSpace
from nqrust.installer.engine.errors import StepFailed, UsageError
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.verbs.network.guard import asking, folder
from nqrust.installer.verbs.network.guard.arming import arm, disarm, fires_after, forget
from nqrust.installer.verbs.network.guard.change import file_change
from nqrust.installer.verbs.network.guard.folder import BEFORE, CONFIRM, FOLDER, SCRIPT, State
from nqrust.installer.verbs.network.guard.guarding import give_up, guarded


@pytest.fixture
def site() -> Site:
    return Site()


def run(site: Site, said: list[str] | None = None, window: int = 40) -> folder.Seen:
    return guarded(site, site.change(), site.alarms, window=window, tell=(said if said is not None else []).append)


def failure(site: Site, said: list[str] | None = None) -> StepFailed:
    with pytest.raises(StepFailed) as failed:
        run(site, said)
    return failed.value


def test_confirmation_and_an_answering_gateway_keep_the_new_network(site: Site) -> None:
    said: list[str] = []
    site.at[3.0] = lambda: site.write_file(CONFIRM, b"")
    site.put(paths.NQR_LINK, "")
    assert run(site, said).confirmed
    assert (site.read_bytes(OLD), site.read_bytes(NEW)) == (b"new\n", b"bridge\n")
    assert said == [
        "Waiting for a new connection from another machine. Connect with SSH, or run `nqr network confirm` as root. "
        "The old network of eth0 comes back in 20 s otherwise."
    ]
    assert not site.exists(FOLDER) and site.alarms.calls[-1] == "clear", "nothing of the guard is left"


def test_lost_terminal_is_no_verdict_on_the_network(site: Site) -> None:
    def tell(text: str) -> None:
        raise BrokenPipeError

    site.at[3.0] = lambda: site.write_file(CONFIRM, b"")
    assert guarded(site, site.change(), site.alarms, window=40, tell=tell).confirmed


def test_fresh_connection_from_another_machine_is_a_proof(site: Site) -> None:
    site.at[2.0] = lambda: site.connected(established())
    assert run(site).peer == "10.0.0.9"


def test_short_connection_between_two_looks_at_the_gateways_is_a_proof(site: Site) -> None:
    site.at[2.35] = lambda: site.connected(established())
    site.at[2.55] = lambda: site.connected()
    assert run(site).peer == "10.0.0.9"


@pytest.mark.parametrize("state", ["04", "05", "06", "08", "09", "0B"])
def test_connection_that_ended_before_the_first_look_is_a_proof(site: Site, state: str) -> None:
    """A check of a port lasts a millisecond. What is left of it for a minute is TIME_WAIT."""
    site.at[2.0] = lambda: site.connected(established().replace(" 01 ", f" {state} "))
    assert run(site).peer == "10.0.0.9"


def test_end_of_a_connection_from_before_is_no_proof(site: Site) -> None:
    site.connected(established())
    site.at[2.0] = lambda: site.connected(established().replace(" 01 ", " 06 "))
    assert failure(site).code == "NQR-NET-140"


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (True, established()),
        (False, established("0200000A")),
        (False, established("090011AC")),
        (False, established("0907A8C0")),
        (False, established("4200000A")),
        (False, established(local_port="BEEF")),
        (False, established().replace(" 01 ", " 03 ")),
    ],
    ids=["from before", "this host", "a container", "another NIC", "a VM", "outbound", "not complete"],
)  # fmt: skip
def test_other_connections_are_no_proof(site: Site, before: bool, line: str) -> None:
    if before:
        site.connected(line)
    site.at[2.0] = lambda: site.connected(line)
    error = failure(site)
    assert error.code == "NQR-NET-140" and "nobody confirmed" in error.what


def test_gateway_that_does_not_answer_brings_the_old_network_back(site: Site) -> None:
    said: list[str] = []
    site.answers.clear()
    site.at[1.0] = lambda: (site.connected(established()), site.write_file(CONFIRM, b""))
    error = failure(site, said)
    assert error.code == "NQR-NET-140" and "gateway 10.0.0.1 does not answer" in error.what
    assert said[0].startswith("Waiting until gateway 10.0.0.1 answers.")
    assert site.monotonic() - site.started < 40, "before the window ends"


def test_gateway_without_a_route_over_the_bridge_is_not_proven(site: Site) -> None:
    site.on("ip", "-json", "-4", "route", "show", "table", "all", answer='[{"dst":"default","gateway":"10.0.0.1","dev":"eth1"}]')
    site.connected(established())
    assert "gateway 10.0.0.1" in failure(site).what


def test_configuration_that_is_not_taken_ends_the_wait_at_once(site: Site) -> None:
    site.on("networkctl", "reload", answer=CommandFailed(("networkctl",), 1, "Bad file."))
    error = failure(site)
    assert error.code == "NQR-NET-140" and "Bad file" in error.what
    assert "go off" in site.alarms.calls and site.monotonic() - site.started < 2


def test_interrupted_run_asks_for_the_old_network(site: Site) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    site.at[2.0] = stop
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(site, said)
    assert site.alarms.calls[-1] == "go off"
    assert said[-1] == "Stopped: the old network of eth0 comes back now. The guard does this without nqr."


def test_signal_ends_the_wait_and_says_what_became_of_the_network(site: Site) -> None:
    """The engine's handler only sets a flag, so nothing is raised here."""
    said, signal = list[str](), Interruption()
    site.at[2.0] = lambda: setattr(signal, "signal", 2)
    with pytest.raises(StepFailed) as failed:
        guarded(site, site.change(), site.alarms, window=40, tell=said.append, stopped=lambda: signal.came)
    assert failed.value.code == "NQR-NET-140" and "nqr was stopped" in failed.value.what
    assert site.monotonic() - site.started < 5, "not at the end of the window"
    assert said[-2].startswith("Stopped: the old network of eth0 comes back now.")
    assert said[-1] == "The old network of eth0 is back: nqr was stopped."
    assert not site.exists(FOLDER)


def test_script_that_does_not_end_is_named_with_its_log(site: Site) -> None:
    site.alarms.fire = lambda host: host.exists(State.armed.path) and host.rename(State.armed.path, State.fired.path)  # type: ignore[method-assign]
    error = failure(site)
    assert error.code == "NQR-NET-144" and SCRIPT in error.cure and "journalctl" in error.cure


def test_all_is_saved_before_anything_changes(site: Site) -> None:
    record = arm(site, site.change(), site.alarms, pid=os.getpid(), window=120)
    assert (record.fires_after, site.alarms.seconds) == (90, 90)
    assert site.read_bytes(OLD) == b"old\n" and not site.exists(NEW)
    assert site.mutations[-1][:2] == ("write_file", State.armed.path)
    for path, mode in ((FOLDER, 0o700), (BEFORE, 0o700), (f"{BEFORE}/0", 0o640), (SCRIPT, 0o700), (folder.RECORD, 0o600)):
        found = site.stat(path)
        assert found is not None and (found.mode, found.owner) == (mode, "root"), path
    assert site.xattrs(f"{BEFORE}/0") == {"user.kept": b"yes"}
    assert not any(word == "old\n" for cmd in site.commands for word in cmd.argv), "contents can be secrets"
    assert "bridge\n" not in site.read_text(SCRIPT)


def test_new_files_keep_what_belongs_to_the_old_ones(site: Site) -> None:
    site.at[1.0] = lambda: site.write_file(CONFIRM, b"")
    run(site)
    old, new = site.stat(OLD), site.stat(NEW)
    assert old is not None and new is not None and (old.mode, new.mode) == (0o640, 0o640)
    assert site.xattrs(OLD) == {"user.kept": b"yes"}


@pytest.mark.parametrize("number", range(1, 8))
def test_guard_that_cannot_be_armed_changes_nothing(site: Site, number: int) -> None:
    site.fail_at(number, NoSpace(FOLDER, "the file system is full"))
    error = failure(site)
    assert error.code == "NQR-NET-142"
    assert site.read_bytes(OLD) == b"old\n" and not site.exists(NEW) and not site.exists(FOLDER)


def test_alarm_that_does_not_start_changes_nothing(site: Site) -> None:
    site.alarms.broken = True
    assert failure(site).code == "NQR-NET-142"
    assert site.read_bytes(OLD) == b"old\n" and not site.exists(FOLDER)


def test_undecided_change_refuses_another(site: Site) -> None:
    arm(site, site.change(), site.alarms, pid=1)
    assert failure(site).code == "NQR-NET-141"
    assert site.alarms.is_on, "the first guard stays"


@pytest.mark.parametrize("first", ["nqr", "script"])
def test_one_of_two_decides(site: Site, first: str) -> None:
    arm(site, site.change(), site.alarms, pid=1)
    if first == "script":
        site.alarms.fire(site)
    assert disarm(site, site.alarms) is (first == "nqr")
    site.alarms.fire(site)
    assert folder.state(site) is (State.none if first == "nqr" else State.restored)


def test_failure_after_the_decision_keeps_the_new_network(site: Site) -> None:
    site.alarms.clear = lambda host, alarm: (_ for _ in ()).throw(CommandFailed(("systemctl",), 1, ""))  # type: ignore[method-assign]
    arm(site, site.change(), site.alarms, pid=1)
    assert disarm(site, site.alarms)
    assert folder.state(site) is State.disarmed


def test_run_that_gives_up_waits_for_the_old_network(site: Site) -> None:
    give_up(site, "eth0", site.alarms)
    assert site.alarms.calls == []
    arm(site, site.change(), site.alarms, pid=1)
    give_up(site, "eth0", site.alarms)
    assert "go off" in site.alarms.calls and not site.exists(FOLDER)


def test_undecided_guard_is_not_forgotten(site: Site) -> None:
    arm(site, site.change(), site.alarms, pid=1)
    forget(site, site.alarms)
    assert site.exists(SCRIPT)


@pytest.mark.parametrize(("window", "after"), [(120, 90), (60, 30), (40, 20), (4, 2)])
def test_guard_fires_early_enough_for_the_way_back(window: int, after: int) -> None:
    assert fires_after(window) == after


def test_link_in_place_of_a_file_is_refused(site: Site) -> None:
    site.put_symlink("/elsewhere", "/etc/systemd/network/linked.network")
    with pytest.raises(StepFailed, match="NQR-NET-145"):
        file_change(site, "/etc/systemd/network/linked.network", b"x")


def _armed(site: Site) -> None:
    arm(site, site.change(), site.alarms, pid=os.getpid(), window=40)


def test_status_tells_what_is_proven_and_the_time_left(site: Site) -> None:
    assert asking.status(site) == asking.GuardStatus()
    _armed(site)
    folder.write_seen(site, folder.Seen(missing=(), peer=""))
    site.sleep(10)
    found = asking.status(site)
    assert (found.state, found.link, found.bridge, found.seconds_left, found.waits) == ("armed", "eth0", "fcbr0", 10, True)
    assert (found.missing, found.gateways) == ((), ("10.0.0.1",)) and "Connect with SSH" in found.next


def test_clock_change_does_not_move_the_window(site: Site) -> None:
    _armed(site)
    site.clock += 86400
    assert asking.status(site).seconds_left == 20


@pytest.mark.parametrize("died", [True, False], ids=["the run died", "no guard"])
def test_confirmation_that_nobody_waits_for_is_refused(site: Site, died: bool) -> None:
    if died:
        arm(site, site.change(), site.alarms, pid=99)
    with pytest.raises(UsageError, match="NQR-NET-143"):
        asking.confirm(site)
    assert not site.exists(CONFIRM)


def _decided(site: Site, how: Callable[[], object]) -> list[str]:
    said: list[str] = []
    _armed(site)
    folder.write_seen(site, folder.Seen(missing=("10.0.0.1",)))
    site.at[2.0] = how
    asking.confirm(site, said.append)
    return said


def test_confirmation_waits_for_the_decision(site: Site) -> None:
    assert _decided(site, lambda: disarm(site, site.alarms)) == ["Confirmed. Waiting until gateway 10.0.0.1 answers."]


def test_late_confirmation_says_so(site: Site) -> None:
    with pytest.raises(StepFailed, match="NQR-NET-146"):
        _decided(site, lambda: site.alarms.fire(site))


def test_start_of_the_machine_runs_the_script_only_with_work_to_do(site: Site) -> None:
    assert not asking.at_start(site)
    _armed(site)
    site.on("sh", SCRIPT, "start", answer=lambda host, cmd: site.alarms.fire(site))
    assert asking.at_start(site)
    assert not asking.at_start(site)

"""A re-run with other settings converges the host: it removes unwanted components, and VMs keep running."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.hosts import product, warm
from tests.hosts.machine import Fingerprint, Machine, Result
from tests.hosts.product import document, eventually, fetch, lines, nqr
from tests.hosts.ready import Ready

pytestmark = pytest.mark.timeout(2400)

INSTALL = ("install", "--non-interactive")
UI = "http://127.0.0.1:3000/"
UI_FILES = ("/etc/systemd/system/nqrust-ui.service", "/etc/nqrust-microvm/ui.env", "/opt/nqrust-microvm/bin/ui")
OFF, ON = {"WITH_UI": "false"}, {"WITH_UI": "true"}
REFUSED = (
    (("--bridge-name", "vmbr1"), "NQR-PRE-063"),
    (("--network-cidr", "10.9.0.0/24"), "NQR-PRE-063"),
    (("--mode", "manager"), "NQR-PRE-063"),
    (("--mode", "agent", "--manager-url", "http://127.0.0.1:18080"), "NQR-PRE-061"),
    (("--data-dir", "/srv/other"), "NQR-PRE-060"),
    (("--install-dir", "/opt/other", "--ignore-preflight", "NQR-PRE-060"), "NQR-PRE-060"),
    (("--db-name", "other"), "NQR-PRE-062"),
    (("--db-type", "remote", "--db-host", "127.0.0.1"), "NQR-PRE-062"),
)


@dataclass
class Installed:
    host: Machine
    before: Fingerprint
    systemd: bool
    vm: dict[str, Any] = field(default_factory=dict)
    kept: int = 0
    """Changes of the run that switches the web UI off, before it removes anything."""

    def install(self, *more: str, env: dict[str, str] | None = None, check: bool = True, timeout: float = 600) -> Result:
        return nqr(self.host, *INSTALL, *more, env=env, check=check, timeout=timeout)

    def changes_nothing(self) -> None:
        again = self.install()
        assert "(0 changed" in again.stdout, again.describe()

    def vm_ran_on(self) -> None:
        eventually("the VM runs", lambda: document(self.host, "vm", "show", self.vm["name"])["state"] == "running")
        assert document(self.host, "vm", "show", self.vm["name"])["boot_id"] == self.vm["boot_id"]
        assert product.vm_processes(self.host, self.vm["id"])

    def services(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in document(self.host, "status")["services"]}


@pytest.fixture(scope="module", params=[True, pytest.param(False, marks=pytest.mark.matrix)], ids=["systemd", "without systemd"])
def installed(request: pytest.FixtureRequest) -> Iterator[Installed]:
    if request.param:
        ready: Ready = request.getfixturevalue("production")
        yield Installed(ready.host, ready.before, True, product.create_vm(ready.host, "web1"))
        return
    with Machine(systemd=False) as host:
        product.clone(host)
        before = host.fingerprint()
        warm.fill(host)
        product.bootstrap(host, "--non-interactive")
        yield Installed(host, before, False, product.create_vm(host, "web1"))


def ui_is_gone(on: Installed) -> None:
    files = [*UI_FILES[1:], UI_FILES[0] if on.systemd else "/etc/nqrust-microvm/supervisord.d/nqrust-ui.conf"]
    assert not [path for path in files if on.host.exists(path)]
    assert fetch(on.host, UI)[0] == 0
    assert "nqrust-ui" not in on.services()
    if on.systemd:
        state = on.host.run(["systemctl", "show", "-p", "LoadState,ActiveState", "nqrust-ui"]).stdout
        assert "LoadState=not-found" in state and "ActiveState=inactive" in state


def test_switching_a_component_off_removes_it_as_planned(installed: Installed) -> None:
    plan = nqr(installed.host, "plan", env=OFF).stdout
    assert "- remove unit nqrust-ui" in plan and "- remove /etc/nqrust-microvm/ui.env" in plan, plan
    assert fetch(installed.host, UI)[0] == 200, "a plan changes nothing"
    planned = next(one for one in lines(nqr(installed.host, "plan", "--output", "json", env=OFF)) if one["type"] == "plan")
    done = lines(installed.install("--output", "json", env=OFF))[-1]
    changed = {phase["name"]: phase["changed"] for phase in done["phases"]}
    # The manager restarts without the folder for the web UI's certificate. The plan does not count the wait for its answer,
    # and supervisord may return only once it answers. After a boot, the plan does not know of the restart either: what each
    # service has read at its start was below /run.
    assert done["changed"] - planned["changes"] in ((1, 2) if installed.systemd else (0, 1))
    assert {name for name, count in changed.items() if count} == {"config", "services", "retire"}, changed
    installed.kept = done["changed"] - changed["retire"]
    ui_is_gone(installed)
    installed.vm_ran_on()
    installed.changes_nothing()
    ui_is_gone(installed)


def test_component_switched_on_again_works_on_another_port(installed: Installed) -> None:
    installed.install(env=ON)
    assert fetch(installed.host, UI)[0] == 200 and installed.services()["nqrust-ui"]["active"]
    installed.install("--ui-bind", "0.0.0.0:3100")
    assert fetch(installed.host, "http://127.0.0.1:3100/")[0] == 200 and fetch(installed.host, UI)[0] == 0
    installed.install("--ui-bind", "0.0.0.0:3000")
    installed.changes_nothing()
    installed.vm_ran_on()


def test_next_run_finishes_a_removal_that_was_killed(installed: Installed) -> None:
    """The last settings disable the web UI, but it still runs. An install that enables it again succeeds."""
    host = installed.host
    records = host.read("/var/lib/nqrust-microvm/journal.jsonl").count("\n")
    steps = ["begin", "done"] * installed.kept
    killed = installed.install(env={**OFF, "NQR_CRASH_AFTER_APPEND": str(len(steps) + 3)}, check=False)
    assert killed.code in (-9, 137), killed.describe()
    journal = [json.loads(line) for line in host.read("/var/lib/nqrust-microvm/journal.jsonl").splitlines()[records:]]
    assert [record["type"] for record in journal] == ["run", *steps, "end", "run"]
    left = installed.services()["nqrust-ui"]
    assert left["active"] and not left["asked"] and "no longer asked for" in nqr(host, "status").stdout
    doctor = nqr(host, "doctor", check=False)
    assert doctor.code == 1 and "remove unit nqrust-ui" in doctor.stdout, doctor.describe()
    again = installed.install("--dry-run", env=ON)
    assert "NQR-PRE-007" not in again.stderr, again.describe()
    installed.install()
    ui_is_gone(installed)
    installed.changes_nothing()


def test_a_rollback_brings_back_what_the_run_had_removed(installed: Installed) -> None:
    said = nqr(installed.host, "rollback", "--non-interactive", timeout=600)
    assert "settings from before that run apply again" in said.stdout and fetch(installed.host, UI)[0] == 200, said.describe()
    assert installed.services()["nqrust-ui"]["asked"]
    installed.changes_nothing()


def test_the_manager_takes_the_port_that_the_web_ui_leaves_in_the_same_run(installed: Installed) -> None:
    installed.install("--no-ui", "--manager-bind", "0.0.0.0:3000")
    assert json.loads(fetch(installed.host, "http://127.0.0.1:3000/health")[1])["status"] == "ok"
    installed.changes_nothing()
    installed.install(
        "--with-ui", "--manager-bind", "0.0.0.0:19090", "--agent-bind", "0.0.0.0:3000", "--ui-bind", "0.0.0.0:18080"
    )
    assert fetch(installed.host, "http://127.0.0.1:18080/")[0] == 200
    installed.changes_nothing()
    installed.install("--manager-bind", "0.0.0.0:18080", "--agent-bind", "0.0.0.0:19090", "--ui-bind", "0.0.0.0:3000")
    installed.changes_nothing()
    installed.vm_ran_on()


@pytest.mark.parametrize(("arguments", "code"), REFUSED, ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_a_change_that_would_lose_vms_is_refused_and_touches_nothing(
    installed: Installed, arguments: tuple[str, ...], code: str
) -> None:
    mark = installed.host.mark()
    result = installed.install(*arguments, check=False, env={"DB_PASSWORD": "irrelevant"})
    assert result.code == 3, result.describe()
    told = {one.code: one for one in product.refusal(result)}
    assert code in told and told[code].cure, result.describe()
    assert product.rewritten(installed.host, mark) == []


@pytest.mark.matrix
def test_a_failure_before_the_new_state_works_has_removed_nothing(installed: Installed) -> None:
    """The host does not have this address. The manager cannot listen on it, so the run rolls back."""
    result = installed.install(
        "--no-ui", "--manager-bind", "203.0.113.7:18080", "--ignore-preflight", "NQR-PRE-052", check=False, timeout=900
    )
    assert result.code == 5, result.describe()
    for url in (UI, "http://127.0.0.1:18080/health", "http://127.0.0.1:19090/agent/v1/health"):
        eventually(f"{url} answers again", lambda url=url: fetch(installed.host, url)[0] == 200)
    installed.changes_nothing()
    installed.vm_ran_on()


def test_without_vms_the_bridge_and_its_network_change(installed: Installed) -> None:
    host = installed.host
    nqr(host, "vm", "rm", "--force", "web1")
    installed.install("--bridge-name", "vmbr1", "--network-cidr", "10.9.0.0/24")
    shown = host.run("ip -br -4 address; iptables -S; iptables -t nat -S").stdout
    assert "vmbr1" in shown and "10.9.0.1/24" in shown and "fcbr0" not in shown and "10.0.0." not in shown
    installed.changes_nothing()


def test_isolated_network_passes_its_proof_and_reaches_nothing_outside(installed: Installed) -> None:
    """The proof boots a VM without a default route. The VM still reports."""
    host = installed.host
    said = installed.install("--network-mode", "isolated", timeout=900)
    assert "could not be proven" not in said.stdout, said.describe()
    vm = product.create_vm(host, "alone", address="10.9.0.")
    assert vm["guest"]["gateway"] == "10.9.0.1" and "MASQUERADE" not in host.run("iptables -t nat -S").stdout
    nqr(host, "vm", "rm", "--force", "alone")
    installed.changes_nothing()


@pytest.mark.matrix
def test_manager_mode_without_vms_removes_the_agent(installed: Installed) -> None:
    host = installed.host
    installed.install("--mode", "manager")
    assert set(installed.services()) == {"nqrust-manager", "nqrust-ui"}
    assert "vmbr1" not in host.run("ip -br link").stdout and fetch(host, "http://127.0.0.1:19090/agent/v1/health")[0] == 0
    installed.changes_nothing()
    installed.install("--mode", "production")
    installed.changes_nothing()


def test_uninstall_after_many_changes_leaves_nothing(installed: Installed) -> None:
    gone = nqr(installed.host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=900)
    assert "\n".join(installed.before.diff(installed.host.fingerprint())) == "", gone.describe()

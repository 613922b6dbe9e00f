"""Random pairs of settings through the real planner: what a change adds, keeps and removes.

Each step is replaced by one that keeps a ledger on a fake host. It has the same id and the same reason to be kept.
See tests/hosts/test_converge.py for the result on a real host.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as rules
from hypothesis import strategies as st
from tests.fakes.host import FakeHost
from tests.unit.installer.engine.test_kill_chains import Killed
from tests.unit.installer.engine.test_retire import Bench
from tests.unit.installer.phases.a_host import fit, network
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS
from tests.unit.installer.phases.test_sudo_rules import PRIVILEGES

from nqrust.host.facts.model import Facts, Link
from nqrust.host.port import Host
from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.plan import Plan
from nqrust.installer.engine.retire import MAKES_WAY
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, Step
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.preflight import changes
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.undo import undo_file
from nqrust.installer.verbs.network.link import Bridge

LEDGER = "/var/lib/ledger"
KEPT = ("image:", "pg-role:", "pg-database:", "directory:/srv", "packages:", "python-environment:", "wheelhouse")
"""Named exceptions: data, the database, packages, and what the environments hold."""


@dataclass(frozen=True)
class Recorded:
    """Replacement for a step: its file exists after the step was applied, and holds the content."""

    id: str
    kind: str
    content: str
    retain: Retain
    undoable: bool

    @property
    def path(self) -> str:
        return f"{LEDGER}/{self.id.replace('/', '%')}"

    def describe(self) -> str:
        return f"do {self.id}"

    def inspect(self, host: Host) -> Inspection:
        same = host.exists(self.path) and host.read_text(self.path) == self.content
        return Satisfied() if same or not self.undoable else Needed((f"+ {self.id}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, (undo_file(self.path, ours_sha256=None, retain=self.retain),))

    def apply(self, host: Host) -> None:
        host.write_file(self.path, self.content.encode())

    def verify(self, host: Host) -> None: ...


NO_UNDO = ("healthy", "package-index", "wheelhouse", "build-release", MAKES_WAY)


def recorded(step: Step) -> Recorded:
    retain = getattr(step, "retain", Retain.nothing)
    if step.kind == "built-image":
        retain = Retain.data
    elif step.kind.startswith(("pg-role", "pg-database", "postgres-role", "postgres-database")):
        retain = Retain.database
    elif step.kind == "packages":
        retain = Retain.packages
    if isinstance(step, Bridge):  # what is in the way of it is no part of what it makes
        step = replace(step, former=(), instead_of=())
    # Environments are covered by more than they need, and an image is what it is.
    stable = step.kind in ("python-environment", "built-image", "packages", "migrate")
    content = "" if stable else hashlib.sha256(repr(step).encode()).hexdigest()
    return Recorded(step.id, step.kind, content, retain, step.kind not in NO_UNDO)


def context(settings: Settings, *former: Settings, facts: Facts | None = None, release: Release = RELEASE) -> Context:
    return Context(
        settings=settings, facts=facts or fit(), secrets=SECRETS, files=ReleaseFiles(release, "/var/cache/x"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"), former=former,
    )  # fmt: skip


def ledger(context: Context) -> Plan:
    whole = planner.plan(context)
    return Plan(tuple(replace(p, steps=tuple(recorded(s) for s in p.steps)) for p in whole.phases))


def bench() -> Bench:
    host = FakeHost.debian12()
    for path in ("/var/lib/nqr", LEDGER):
        host.put_directory(path, mode=0o700)
    return Bench(host)


def things(bench: Bench) -> dict[str, str]:
    names = bench.host.listdir(LEDGER)
    return {name.replace("%", "/"): bench.host.read_text(f"{LEDGER}/{name}") for name in names}


def without_kept(found: dict[str, str]) -> dict[str, str]:
    return {id: content for id, content in found.items() if not id.startswith(KEPT)}


@st.composite
def wishes(draw: st.DrawFn) -> Settings:
    cidr = draw(st.sampled_from(("10.0.0.0/24", "10.7.0.0/24")))
    prefix = cidr.rpartition(".")[0]
    raw: dict[str, Any] = {
        "mode": draw(st.sampled_from(("production", "dev", "minimal", "manager"))),
        "vmm": draw(st.sampled_from(("auto", "qemu"))),
        "nested": draw(st.booleans()),
        "components": {"ui": draw(st.booleans()), "container_runtime": draw(st.booleans())},
        "network": {
            "mode": draw(st.sampled_from(("nat", "isolated", "bridged"))),
            "bridge_name": draw(st.sampled_from(("fcbr0", "vmbr1"))),
            "cidr": cidr,
            "dhcp_first": f"{prefix}.{draw(st.sampled_from((10, 20)))}",
            "dhcp_last": f"{prefix}.200",
        },
        "manager": {"bind": draw(st.sampled_from(("0.0.0.0:18080", "0.0.0.0:3000"))), "reconciler_disabled": draw(st.booleans())},
        "ui": {"bind": draw(st.sampled_from(("0.0.0.0:3001", "127.0.0.1:18081")))},
        "agent": {"name": draw(st.sampled_from((None, "kvm7")))},
    }
    return Settings.model_validate(raw)


def ends_like_a_fresh_install(first: Settings, second: Settings) -> None:
    assume(not list(changes.checks(second, first, fit(), ())))
    here, fresh = bench(), bench()
    assert here.run(ledger(context(first))).outcome == "ok"
    assert fresh.run(ledger(context(second))).outcome == "ok"
    moved = ledger(context(second, first))
    assert here.run(moved).outcome == "ok"
    assert without_kept(things(here)) == without_kept(things(fresh))
    assert set(things(here)) >= set(things(fresh)), "what is asked for is there, data included"
    again = here.run(ledger(context(second, first, second)))
    assert again.changed == 0
    assert not here.back().failed and things(here) == {}


@rules(max_examples=8, deadline=None)
@given(wishes(), wishes())
def test_any_change_that_is_not_refused_ends_like_a_fresh_install(first: Settings, second: Settings) -> None:
    ends_like_a_fresh_install(first, second)


@pytest.mark.matrix
@rules(max_examples=25, deadline=None)
@given(wishes(), wishes())
def test_many_changes_that_are_not_refused_end_like_a_fresh_install(first: Settings, second: Settings) -> None:
    ends_like_a_fresh_install(first, second)


def resumed_ends_the_same(first: Settings, second: Settings, at: int, early: bool) -> None:
    assume(not list(changes.checks(second, first, fit(), ())))
    here, fresh = bench(), bench()
    here.run(ledger(context(first)))
    fresh.run(ledger(context(second)))
    here.store.next_process(**{"before" if early else "after": at})
    with suppress(Killed):
        here.run(ledger(context(second, first)))
    here.store.next_process()
    assert here.run(ledger(context(second, first, second))).outcome == "ok"
    assert without_kept(things(here)) == without_kept(things(fresh))
    assert here.run(ledger(context(second, first, second))).changed == 0


@rules(max_examples=5, deadline=None)
@given(wishes(), wishes(), st.integers(1, 60), st.booleans())
def test_a_change_killed_anywhere_and_resumed_ends_the_same(first: Settings, second: Settings, at: int, early: bool) -> None:
    resumed_ends_the_same(first, second, at, early)


@pytest.mark.matrix
@rules(max_examples=15, deadline=None)
@given(wishes(), wishes(), st.integers(1, 60), st.booleans())
def test_many_changes_killed_anywhere_and_resumed_end_the_same(first: Settings, second: Settings, at: int, early: bool) -> None:
    resumed_ends_the_same(first, second, at, early)


def test_nat_that_becomes_bridged_removes_its_own_network_and_nothing_of_the_lans() -> None:
    here, nat, lan = bench(), Settings(), Settings.model_validate({"network": {"mode": "bridged", "bridge_name": "br0"}})
    facts = fit(
        network=network(Link("br0", "bridge", True, "x", addresses=("192.0.2.10/24",)), Link("eth1", "", True, "y", master="br0"))
    )
    here.run(ledger(context(nat)))
    result = here.run(ledger(context(lan, nat, facts=facts)))
    own = {"bridge:fcbr0", "service:nqrust-dhcp", "file:/etc/nqrust-microvm/dnsmasq.conf", "sysctl:net.ipv4.ip_forward"}
    assert own <= set(result.retired.gone) and not own & set(things(here))
    assert {"firewall:iptables", "bridge-table:nqrust-microvm", "service:nqrust-network"} <= set(things(here))
    assert here.run(ledger(context(lan, nat, lan, facts=facts))).changed == 0
    assert here.run(ledger(context(nat, nat, lan))).outcome == "ok" and "ready-bridge:br0" not in things(here)


def test_switching_the_web_ui_off_removes_only_its_own_things() -> None:
    here, on = bench(), Settings()
    off = Settings.model_validate({"components": {"ui": False}})
    here.run(ledger(context(on)))
    result = here.run(ledger(context(off, on)))
    assert sorted(result.retired.gone) == [
        "directory:/var/lib/nqrust-microvm/manager-tls",
        "file:/etc/nqrust-microvm/ui.env",
        "file:/etc/systemd/system/nqrust-ui.service",
        "group:nqrust-ui",
        "service:nqrust-ui",
        "symlink:/opt/nqrust-microvm/bin/ui",
        "symlink:/opt/nqrust-microvm/releases/1.2.3/bin/ui",
        "user:nqrust-ui",
    ]
    assert here.run(ledger(context(on, on, off))).outcome == "ok" and "service:nqrust-ui" in things(here)


def test_the_container_runtime_switched_off_leaves_its_image_and_says_so() -> None:
    here, plain = bench(), Settings()
    with_it = Settings.model_validate({"components": {"container_runtime": True}})
    here.run(ledger(context(with_it)))
    result = here.run(ledger(context(plain, with_it)))
    assert result.retired.gone == () and "image:container-runtime" in things(here)
    assert len(result.retired.stays) == 1


def test_a_manager_that_was_production_has_no_agent_left() -> None:
    here, manager = bench(), Settings.model_validate({"mode": "manager"})
    here.run(ledger(context(Settings())))
    here.run(ledger(context(manager, Settings())))
    left = things(here)
    assert not [id for id in left if any(word in id for word in ("agent.service", "dnsmasq", "bridge", "firewall", "kvm"))]
    assert "directory:/srv/fc/volumes" in left, "data"


def test_sudo_rules_of_an_older_version_go() -> None:
    """Its journal has them. A release that declares no privilege plans none."""
    here, bare = bench(), RELEASE.model_copy(update={"privileges": ()})
    here.run(ledger(context(Settings(), release=RELEASE.model_copy(update={"privileges": PRIVILEGES}))))
    assert "sudoers:/etc/sudoers.d/nqrust" in things(here)
    result = here.run(ledger(context(Settings(), Settings(), release=bare)))
    assert set(result.retired.gone) >= {"sudoers:/etc/sudoers.d/nqrust"}
    assert not [id for id in things(here) if "sudoers" in id]


@pytest.mark.parametrize("used", [False, True], ids=["alone", "beside others that forward"])
def test_ip_forwarding_that_a_neighbour_uses_stays(used: bool) -> None:
    here = bench()
    isolated = Settings.model_validate({"network": {"mode": "isolated"}})
    here.run(ledger(context(Settings())))
    result = here.run(ledger(replace(context(isolated, Settings()), forwards=lambda: used)))
    assert ("sysctl:net.ipv4.ip_forward" in result.retired.gone) is not used


def test_another_release_leaves_the_earlier_one_in_its_folder() -> None:
    here, newer = bench(), RELEASE.model_copy(update={"version": "1.3.0"})
    here.run(ledger(context(Settings())))
    result = here.run(ledger(context(Settings(), Settings(), release=newer)))
    assert result.outcome == "ok" and result.retired.gone == ()
    assert "symlink:/opt/nqrust-microvm/releases/1.2.3/bin/manager" in things(here)


def test_change_of_the_machine_retires_nothing() -> None:
    """A boot without KVM, without modules or under another PID 1 is nobody's choice."""
    here = bench()
    here.run(ledger(context(Settings(nested=True), facts=fit(packages=frozenset({"udev"})))))
    kvm = replace(fit().kvm, present=False, usable=False)
    for facts in (fit(kvm=kvm), fit(kernel=replace(fit().kernel, modules_loadable=False)), fit(supervisor="none")):
        result = here.run(ledger(context(Settings(nested=True), Settings(nested=True), facts=facts)))
        assert result.retired.gone == ()


def test_port_is_freed_before_another_service_takes_it() -> None:
    old = Settings.model_validate({"manager": {"bind": "0.0.0.0:18080"}, "ui": {"bind": "0.0.0.0:3000"}})
    new = Settings.model_validate({"manager": {"bind": "0.0.0.0:3000"}, "ui": {"bind": "0.0.0.0:18080"}})
    ids = [step.id for _, step in planner.plan(context(new, old)).steps()]
    assert ids.index("makes-way:service:nqrust-ui") < ids.index("service:nqrust-manager")
    assert ids.index("makes-way:service:nqrust-manager") < ids.index("service:nqrust-manager")
    assert [id for id in ids if id.startswith("makes-way")] == ["makes-way:service:nqrust-manager", "makes-way:service:nqrust-ui"]
    assert not [s.id for _, s in planner.plan(context(old, old)).steps() if s.kind == MAKES_WAY]


def test_an_old_bridge_goes_before_the_new_one_comes() -> None:
    new = Settings.model_validate({"network": {"bridge_name": "vmbr1"}})
    ids = [step.id for _, step in planner.plan(context(new, Settings())).steps()]
    assert ids.index("makes-way:service:nqrust-dhcp") < ids.index("makes-way:bridge:fcbr0") < ids.index("bridge:vmbr1")

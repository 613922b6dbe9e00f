"""A guide over an installer in memory: real settings, real texts, no machine."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.unit.installer.phases.a_host import fit
from textual.pilot import Pilot

from nqrust.guide import fields
from nqrust.guide.app import Guide
from nqrust.guide.backend import Answers
from nqrust.guide.state import State
from nqrust.host.facts.model import Facts, Link
from nqrust.installer.engine.errors import Interrupted, NqrError, PreflightRefused
from nqrust.installer.engine.events import PhaseFinished, PhaseStarted, Proof, Reporter, StepFinished, StepStarted
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.operations.looking import HostLook
from nqrust.installer.preflight import findings
from nqrust.installer.preflight.run import Checked
from nqrust.installer.request import PhasePreview, PhaseSummary, PlanPreview, ProofSummary, StepPreview, Summary
from nqrust.installer.settings.sources import Gathered, gather

FACTS = replace(
    fit(),
    network=replace(
        fit().network, links=(*fit().network.links, Link("lab0", "bridge", True, "02:00:00:00:00:09", None, ("10.9.0.1/24",)))
    ),
)
CHECKED = (
    Checked("Machine and KVM", (findings.warning("NQR-PRE-009", "KVM does not work here.", "Enable virtualisation."),)),
    Checked("Ports"),
    Checked("VM network", (findings.info("NQR-PRE-012", "Docker drops forwarded packets by default."),)),
)
PLAN = PlanPreview(
    "install",
    (
        PhasePreview("deps", "Packages and the release", (
            StepPreview("packages:platform", "packages", "install the packages postgresql and dnsmasq"),
            StepPreview("build-release", "build-release", "build the release"),
        ), 4),
        PhasePreview("network", "Network of the VMs", (StepPreview("bridge:fcbr0", "bridge", "create bridge fcbr0"),)),
        PhasePreview("kvm", "KVM", (), 3),
    ),
)  # fmt: skip
PROOF = ProofSummary("a test VM", "passed", "booted in 3 s")
DONE = Summary(
    "ok", 0, changed=3, satisfied=7, phases=(PhaseSummary("deps", 2), PhaseSummary("network", 1)), seconds=95.0,
    urls={"ui": "http://127.0.0.1:3000", "manager": "http://127.0.0.1:18080"},
    elsewhere={"ui": "https://10.77.0.2:3000", "manager": "https://10.77.0.2:18080"}, authority="AB:CD",
    proofs=(PROOF,), admin_password_file="/etc/nqrust-microvm/admin-password",
)  # fmt: skip
FAILED = Summary(
    "rolled_back", 5, changed=1, phases=(PhaseSummary("deps", 1),),
    failure=NqrError("NQR-DEP-201", "The packages could not be installed.", "Repair the package sources."),
)  # fmt: skip


@dataclass
class Memory:
    """A backend without a machine. `gate` holds the install until a test opens it."""

    facts: Facts = FACTS
    checked: tuple[Checked, ...] = CHECKED
    recorded: Mapping[str, object] = field(default_factory=dict)
    refusal: PreflightRefused | None = None
    summary: Summary = DONE
    gate: threading.Event = field(default_factory=threading.Event)
    installed: list[Gathered] = field(default_factory=list)
    examined: int = 0
    planned: int = 0
    saved: dict[str, str] = field(default_factory=dict)
    unfinished: str = ""
    keeps: bool = False

    def settle(self, answers: Answers) -> Gathered:
        environ = {name: value.reveal() for name, value in answers.secrets.items()}
        below = gather(flags={}, environ={}, recorded=self.recorded)
        return gather(flags=fields.effective(answers.settings, below), environ=environ, recorded=self.recorded)

    def examine(self, found: Gathered) -> HostLook:
        self.examined += 1
        return HostLook(self.facts, self.checked, bool(self.recorded), self.unfinished)

    def plan(self, found: Gathered) -> Summary:
        self.planned += 1
        return Summary("refused", 3, failure=self.refusal) if self.refusal else Summary("ok", 0, preview=PLAN)

    def install(self, found: Gathered, reviewed: PlanPreview, events: Reporter, interruption: Interruption) -> Summary:
        assert reviewed == PLAN
        self.installed.append(found)
        events.emit(PhaseStarted("preflight", "Checking this host", 0))
        events.emit(PhaseStarted("deps", "Packages and the release", 2))
        events.emit(StepStarted("deps", "packages:platform", "packages", "install the packages postgresql and dnsmasq"))
        while not self.gate.wait(0.02):
            if interruption.came:
                stopped = Interrupted("NQR-ENG-030", "Stopped by SIGINT.", "Run the same command again when you are ready.")
                return replace(FAILED, exit_code=130, failure=stopped)
        for name in ("packages:platform", "build-release"):
            events.emit(StepFinished("deps", name, "", name, "changed", 3.0))
        events.emit(PhaseFinished("deps", 2, 4, 6.0))
        events.emit(PhaseStarted("verify", "Proof", 0))
        events.emit(Proof("a test VM", "passed", "booted in 3 s"))
        events.emit(PhaseFinished("verify", 0, 1, 3.0))
        return self.summary

    def keeps_after_failure(self) -> bool:
        return self.keeps

    def save(self, path: str, text: str) -> None:
        self.saved[path] = text

    def first_password(self, summary: Summary) -> str:
        return "k7PgenerAted" if summary.admin_password_file else ""

    def log_path(self) -> str:
        return "/var/log/nqrust-install/20261129T003818Z.log" if self.installed else ""


def guide(memory: Memory | None = None, first: str = "host") -> Guide:
    memory = memory or Memory()
    return Guide(State(memory, memory.settle(Answers())), first)


def screen(pilot: Pilot[Any]) -> list[str]:
    """Return the lines that a terminal shows now."""
    shown = pilot.app.screen._compositor.render_strips(pilot.app.size)
    return ["".join(segment.text for segment in strip).rstrip() for strip in shown]


def text(pilot: Pilot[Any]) -> str:
    return "\n".join(screen(pilot))


async def until(pilot: Pilot[Any], wanted: str) -> str:
    """Wait until the screen shows these words, and return all of it."""
    for _ in range(200):
        await pilot.pause(0.02)
        if wanted in text(pilot):
            await pilot.pause(0.05)  # until the layout of new text is complete
            return text(pilot)
    raise AssertionError(f"{wanted!r} never came:\n{text(pilot)}")


async def at_settings(app: Guide, pilot: Pilot[Any]) -> None:
    await until(pilot, "This host is ready")
    await pilot.press("enter")
    await until(pilot, "Role of this host")


async def focus(pilot: Pilot[Any], key: str) -> None:
    app = pilot.app
    app.screen._rows[key].control.focus()
    await pilot.pause(0.05)


async def at_review(app: Guide, pilot: Pilot[Any]) -> str:
    await at_settings(app, pilot)
    await pilot.press("ctrl+n")
    return await until(pilot, "Exposed")


async def at_progress(app: Guide, pilot: Pilot[Any]) -> str:
    await at_review(app, pilot)
    await pilot.press("enter")
    return await until(pilot, "left")


def words(shown: str) -> str:
    return " ".join(shown.split())


def whole(pilot: Pilot[Any], *wanted: str) -> None:
    shown = words(text(pilot))
    for one in wanted:
        assert one in shown, f"{one!r} is cut:\n{text(pilot)}"

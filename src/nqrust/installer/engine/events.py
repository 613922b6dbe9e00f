"""Events of the engine. Reporters (terminal, plain lines, JSON lines, log file) receive them; core code never prints. Events
carry no secret: steps describe themselves without one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class RunStarted(Event):
    run: str
    verb: str  # install | rollback | uninstall | upgrade | plan | verify
    resumed: bool = False
    total_steps: int = 0


@dataclass(frozen=True)
class PhaseStarted(Event):
    name: str
    title: str
    steps: int
    skipped: str = ""


@dataclass(frozen=True)
class StepStarted(Event):
    phase: str
    id: str
    kind: str
    describe: str


@dataclass(frozen=True)
class StepProgress(Event):
    """Progress of a step. `fraction`: 0 to 1 if known; `text`: a short line."""

    id: str
    text: str = ""
    fraction: float | None = None


@dataclass(frozen=True)
class StepFinished(Event):
    """The end of a step. `outcome`: satisfied | changed | would-change | conflict | failed | undone | kept | undo-failed."""

    phase: str
    id: str
    kind: str
    describe: str
    outcome: str
    seconds: float = 0.0
    diff: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class PhaseFinished(Event):
    name: str
    changed: int
    satisfied: int
    seconds: float


@dataclass(frozen=True)
class Notice(Event):
    """A sentence for people. `severity`: info | warning | error. `code` and `cure` are optional."""

    severity: str
    text: str
    code: str = ""
    cure: str = ""


@dataclass(frozen=True)
class Proof(Event):
    """One hop of verification. `verdict`: passed | failed | unproven."""

    hop: str
    verdict: str
    detail: str = ""
    code: str = ""
    cure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class RunFinished(Event):
    """The end of a run. `outcome`: ok | failed | rolled_back | refused."""

    outcome: str
    changed: int
    satisfied: int
    seconds: float
    phases: tuple[dict[str, Any], ...] = field(default_factory=tuple)


class Reporter(Protocol):
    """Receives events. Must not raise."""

    def emit(self, event: Event) -> None: ...


class NullReporter:
    """A reporter that discards every event."""

    def emit(self, event: Event) -> None:
        return None


@dataclass
class Fanout:
    """A reporter that passes events to several reporters, in order."""

    reporters: tuple[Reporter, ...]

    def emit(self, event: Event) -> None:
        for reporter in self.reporters:
            reporter.emit(event)

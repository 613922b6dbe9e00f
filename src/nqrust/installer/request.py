"""What the command line asks of `operations`, and what it gets back. Data only: nothing here reads or
prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.rehearsed import Rehearsal
from nqrust.installer.settings.model import Settings

OnFailure = Literal["rollback", "keep"]
Outcome = Literal["ok", "failed", "rolled_back", "partly_undone", "refused"]

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_UNVERIFIED = 4
EXIT_ROLLED_BACK = 5
EXIT_CHANGES = 10
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class StepPreview:
    """One step that would change something. `diff`: lines as the step's inspection gave them; never a secret.
    `conflict` is set when the step would refuse instead."""

    id: str
    kind: str
    describe: str
    diff: tuple[str, ...] = ()
    conflict: str = ""


@dataclass(frozen=True)
class PhasePreview:
    """One phase of a plan. `skipped` says why it has nothing to do at all."""

    name: str
    title: str
    changes: tuple[StepPreview, ...] = ()
    satisfied: int = 0
    notes: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class StaysPreview:
    """Something that an uninstall or a rollback would leave, and why. `recorded`: nqr takes it back later."""

    id: str
    describe: str
    why: str
    recorded: bool = False


@dataclass(frozen=True)
class PlanPreview:
    """What would change, phase by phase; shown before the question, and the answer of `nqr plan` and of a dry run. `stays`: of
    uninstall and rollback."""

    verb: str = "install"
    phases: tuple[PhasePreview, ...] = ()
    warnings: tuple[str, ...] = ()
    stays: tuple[StaysPreview, ...] = ()

    @property
    def changes(self) -> int:
        return sum(len(phase.changes) for phase in self.phases)

    @property
    def satisfied(self) -> int:
        return sum(phase.satisfied for phase in self.phases)


@dataclass(frozen=True)
class RunOptions:
    """How to run, as against what to install.

    `ignore_preflight`: codes of checks whose failure becomes a warning. `purge_data`, `drop_database` and
    `keep_packages` concern uninstall. `confirm`: asked once with the plan before the first change; False ends
    the run without touching anything. None: not asked. `log_path`: where this run's log is written.
    """

    dry_run: bool = False
    non_interactive: bool = False
    on_failure: OnFailure = "rollback"
    ignore_preflight: tuple[str, ...] = ()
    purge_data: bool = False
    drop_database: bool = False
    keep_packages: bool = False
    confirm: Callable[[PlanPreview], bool] | None = None
    log_path: str = ""


@dataclass(frozen=True)
class Environment:
    """What comes from the environment (or a password file) and is no setting.

    `db_password`: DB_PASSWORD or the content of --db-password-file. `proxy`: variables by the name in which
    they were given (http_proxy, https_proxy, no_proxy, in either case). `checkout`: the source tree that the
    bootstrap runs from, "" when there is none.
    """

    db_password: Secret | None = None
    proxy: Mapping[str, str] = field(default_factory=dict)
    checkout: str = ""


@dataclass(frozen=True)
class Request:
    """`explicit`: dotted names (`network.mode`) of the settings that somebody chose: given now by flag,
    environment or file, or recorded by the last install. The rest are defaults."""

    settings: Settings
    run: RunOptions = RunOptions()
    environment: Environment = Environment()
    explicit: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PhaseSummary:
    """`seconds` of wall clock."""

    name: str
    changed: int
    satisfied: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ProofSummary:
    """One hop of verification. `verdict`: passed | failed | unproven."""

    hop: str
    verdict: str
    detail: str = ""
    code: str = ""
    cure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Summary:
    """How an operation ended. `urls`: name -> address (`ui`, `manager`, `agent`). `notes`: sentences for
    people. `failure`: what went wrong, None when nothing did. `preview`: filled by `plan` and by a dry
    run; `rehearsal` by a rehearsal that came to its end."""

    outcome: Outcome
    exit_code: int
    changed: int = 0
    satisfied: int = 0
    phases: tuple[PhaseSummary, ...] = ()
    seconds: float = 0.0
    urls: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failure: NqrError | None = None
    proofs: tuple[ProofSummary, ...] = ()
    log_path: str = ""
    admin_password_file: str = ""
    preview: PlanPreview | None = None
    rehearsal: Rehearsal | None = None
    farewell: str = ""


@dataclass(frozen=True)
class ServiceStatus:
    """One service of ours as its supervisor sees it. `healthy` is None where it has no health address; `asked` False when
    the settings no longer ask for it."""

    name: str
    enabled: bool
    active: bool
    healthy: bool | None = None
    detail: str = ""
    asked: bool = True


@dataclass(frozen=True)
class Status:
    """What is installed here. `installed` False: nothing of ours; `unfinished` names a run that was cut off
    (`install`, `uninstall` ...), "" when none was. `drift`: what is no longer as installed, each a
    sentence."""

    installed: bool
    version: str = ""
    mode: str = ""
    installed_at: str = ""
    supervisor: str = ""
    vmm: str = ""
    unfinished: str = ""
    services: tuple[ServiceStatus, ...] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    drift: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

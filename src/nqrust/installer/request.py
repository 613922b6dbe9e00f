"""The requests of the command line to `operations`, and their results. Data only: nothing here reads or prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.rehearsed import Rehearsal
from nqrust.installer.settings.model import Settings

OnFailure = Literal["rollback", "keep"]
Outcome = Literal["ok", "failed", "rolled_back", "partly_undone", "refused"]

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 3
EXIT_UNVERIFIED = 4
EXIT_ROLLED_BACK = 5
EXIT_CHANGES = 10
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class StepPreview:
    """A step that would change something. `diff`: lines from the step's inspection; never a secret. `conflict`: why the step
    would refuse instead, or ""."""

    id: str
    kind: str
    describe: str
    diff: tuple[str, ...] = ()
    conflict: str = ""


@dataclass(frozen=True)
class PhasePreview:
    """A phase of a plan. `skipped`: why the phase has nothing to do."""

    name: str
    title: str
    changes: tuple[StepPreview, ...] = ()
    satisfied: int = 0
    notes: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class StaysPreview:
    """Something that an uninstall or a rollback would leave, and why. `recorded`: nqr can remove it later."""

    id: str
    describe: str
    why: str
    recorded: bool = False


@dataclass(frozen=True)
class PlanPreview:
    """The planned changes by phase: shown before the confirmation, and the result of `nqr plan` and of a dry run. `stays`:
    for uninstall and rollback."""

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
    """How to run, as opposed to what to install.

    `ignore_preflight`: codes of checks whose failures become warnings. `allow_downgrade`: install an older release than the
    one in use. `purge_data`, `drop_database` and `keep_packages` are
    for uninstall. `confirm`: called once with the plan before the first change; False ends the run without changes, None
    skips the question. `log_path`: path of this run's log. `interruption`: the signal flag of the run.
    """

    dry_run: bool = False
    on_failure: OnFailure = "rollback"
    ignore_preflight: tuple[str, ...] = ()
    allow_downgrade: bool = False
    purge_data: bool = False
    drop_database: bool = False
    keep_packages: bool = False
    confirm: Callable[[PlanPreview], bool] | None = None
    log_path: str = ""
    interruption: Interruption = field(default_factory=Interruption, compare=False, repr=False)


@dataclass(frozen=True)
class Environment:
    """Input from the environment (or a password file) that is not a setting.

    `db_password`: DB_PASSWORD or the content of --db-password-file. `admin_password`: the chosen first password of the web UI.
    `join_token`: of an agent, from the environment. `proxy`: variables by their given names (http_proxy,
    https_proxy, no_proxy, in either case). `checkout`: the bootstrap's source tree, or "".
    """

    db_password: Secret | None = None
    admin_password: Secret | None = None
    join_token: Secret | None = None
    proxy: Mapping[str, str] = field(default_factory=dict)
    checkout: str = ""


@dataclass(frozen=True)
class Request:
    """`explicit`: dotted names (`network.mode`) of settings that the user chose: by flag, environment or file, or in the last
    install. All other settings are defaults."""

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
    """A hop of verification. `verdict`: passed | failed | unproven."""

    hop: str
    verdict: str
    detail: str = ""
    code: str = ""
    cure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Summary:
    """The result of an operation. `urls`: name -> address (`ui`, `manager`, `agent`). `notes`: sentences for people.
    `elsewhere`: the same for other machines, over TLS. `authority`: the fingerprint that they compare (SHA-256).
    `failure`: the error, or None. `preview`: set by `plan` and by a dry run. `rehearsal`: set by a completed rehearsal."""

    outcome: Outcome
    exit_code: int
    changed: int = 0
    satisfied: int = 0
    phases: tuple[PhaseSummary, ...] = ()
    seconds: float = 0.0
    urls: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    authority: str = ""
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
    """A service of nqr as its supervisor reports it. `healthy` is None without a health address. `asked` is False if the
    settings no longer include it."""

    name: str
    enabled: bool
    active: bool
    healthy: bool | None = None
    detail: str = ""
    asked: bool = True


@dataclass(frozen=True)
class Status:
    """The installation on this host. `installed` is False if there is none. `unfinished`: the interrupted run (`install`,
    `uninstall` ...), or "". `drift`: sentences on changes since the install. `problems`: sentences on what is wrong though it is as
    installed."""

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
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

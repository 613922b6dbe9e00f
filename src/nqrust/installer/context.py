"""What a phase is given to turn into steps. Data only: phases are pure functions `plan(context) -> PhasePlan`."""

from __future__ import annotations

from dataclasses import dataclass, field

from nqrust.contract.paths import CACHE_DIR, Layout
from nqrust.host.facts.model import Facts
from nqrust.host.secret import Secret
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Step
from nqrust.installer.platform.firecracker import Supplied
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor import registry
from nqrust.installer.supervisor.port import Supervisor
from nqrust.installer.supervisor.supervisord import Supervisord


@dataclass(frozen=True)
class Secrets:
    """Every secret of an installation. Generated once, kept in SECRETS_JSON (0600 root), never rotated by a re-run."""

    db_password: Secret
    admin_password: Secret
    admin_password_salt: str  # hex; keeps the stored hash stable from run to run
    cli_token: Secret
    join_token: Secret
    ui_storage_secret: Secret


@dataclass(frozen=True)
class ReleaseFiles:
    """A release: its descriptor, the folder that holds (or will hold) its artifacts, and the steps that fill it."""

    release: Release
    directory: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Context:
    """`build_roles`: roles of packages (distro/) that building the release on this host takes. `explicit`: settings that
    somebody chose, by dotted name. `first`: the journal knows nothing of ours here. `former`: settings of the runs that
    have changed this host, oldest first; what they made may be in the way. `vms`: this host has VMs."""

    settings: Settings
    facts: Facts
    secrets: Secrets
    files: ReleaseFiles
    python: Interpreter
    build_roles: tuple[str, ...] = ()
    explicit: frozenset[str] = frozenset()
    cache: str = CACHE_DIR
    firecracker: Supplied | None = None  # an archive that the administrator vouches for
    first: bool = False
    former: tuple[Settings, ...] = ()
    vms: bool = False
    progress: Progress = field(default=silent, compare=False, repr=False)

    @property
    def layout(self) -> Layout:
        return self.settings.layout

    @property
    def release(self) -> Release:
        return self.files.release

    @property
    def installer_venv(self) -> str:
        return f"{self.layout.installer_dir}/venv"

    @property
    def supervisord(self) -> Supervisord:
        """Where our own supervisord is, on hosts without systemd."""
        return Supervisord(bin_dir=f"{self.installer_venv}/bin", config=f"{self.layout.config_dir}/supervisord.conf")

    @property
    def supervisor(self) -> Supervisor:
        return registry.for_facts(self.facts.supervisor, self.supervisord)

    @property
    def has_systemd(self) -> bool:
        return self.facts.supervisor == "systemd"

"""The input of the phases. Data only: a phase is a pure function `plan(context) -> PhasePlan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nqrust.contract import credentials
from nqrust.contract.paths import CACHE_DIR, Layout
from nqrust.host.facts.model import Facts
from nqrust.host.secret import Secret
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Step
from nqrust.installer.platform.firecracker.source import Source
from nqrust.installer.platform.node import Node
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor import registry
from nqrust.installer.supervisor.port import Supervisor
from nqrust.installer.supervisor.supervisord import Supervisord
from nqrust.installer.verbs.network.own_card import OwnBridge


@dataclass(frozen=True)
class Secrets:
    """Every secret of an installation. The first run generates them and stores them in SECRETS_JSON (0600 root). A re-run
    never rotates them; `nqr rotate` does.

    `authority` signs. While it is rotated, `next_authority` comes, or `former_authority` goes; otherwise both are empty.
    """

    db_password: Secret
    admin_password: Secret
    admin_password_salt: str  # hex; keeps the stored hash the same in every run
    cli_token: Secret
    join_token: Secret
    ui_storage_secret: Secret
    authority: str  # the installation's own certificate authority, PEM
    authority_key: Secret
    next_authority: str = ""
    next_authority_key: Secret = field(default_factory=lambda: Secret(""))
    former_authority: str = ""
    known_hash: str = ""
    """Of the administrator's password and its salt, if an earlier run made it. A hash takes 40 ms."""

    @cached_property
    def admin_password_hash(self) -> str:
        """Return the hash of the administrator's first password for the manager."""
        salt = bytes.fromhex(self.admin_password_salt)
        return self.known_hash or credentials.hash_password(self.admin_password.reveal(), salt=salt)

    @property
    def trusted(self) -> str:
        """All authorities that the manager and its agents trust, PEM."""
        return self.authority + self.next_authority + self.former_authority


@dataclass(frozen=True)
class ReleaseFiles:
    """A release: its descriptor, the folder for its artifacts, the steps that fill the folder, and the id of the key that
    signed it, or "". `bundle`: the folder of the bundle that the release comes from, or "". `images`: those in the bundle."""

    release: Release
    directory: str
    steps: tuple[Step, ...] = ()
    signed_by: str = ""
    bundle: str = ""
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """Settings, facts and release of one run.

    `build_roles`: package roles (distro/) for building the release on this host. `explicit`: settings that somebody chose, by
    dotted name. `first`: the journal has no record of this database. `own_database`: it says that nqr created the database.
    `former`: settings of all runs that changed this host, oldest first; their results may be in the way. `own_bridges`: bridges to
    the LAN that nqr made. `vms`: this host has VMs. `routed`: the host forwarded packets before nqr. `forwards` looks whether others
    rely on the forwarding that nqr turned on. `leads`: folder of the platform -> itself, and where links on the way lead. `reach`:
    variables of proxies, mirrors and certificates. `tell` gets sentences for people. `interruption`: the signal flag of the run.
    """

    settings: Settings
    facts: Facts
    secrets: Secrets
    files: ReleaseFiles
    python: Interpreter
    build_roles: tuple[str, ...] = ()
    explicit: frozenset[str] = frozenset()
    own: ReleaseFiles | None = None  # nqr's own, beside a release that does not contain nqr
    node: Node | None = None  # runs the web UI of a release that needs it
    own_tls: tuple[str, Secret] | None = None  # the operator's certificate and key
    database_ca: tuple[str, str] | None = None  # the remote database's authority, and the file that root reads it from
    cache: str = CACHE_DIR
    firecracker: Source | None = None  # where Firecracker comes from; None on a host without an agent
    first: bool = False
    own_database: bool = False
    former: tuple[Settings, ...] = ()
    own_bridges: tuple[OwnBridge, ...] = ()
    vms: bool = False
    routed: bool = False
    forwards: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)
    leads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    looked: Supervisor | None = None  # the supervisor, with the states that it had
    reach: Mapping[str, str] = field(default_factory=dict, repr=False)
    tell: Callable[[str], None] = field(default=lambda text: None, compare=False, repr=False)
    interruption: Interruption = field(default_factory=Interruption, compare=False, repr=False)
    progress: Progress = field(default=silent, compare=False, repr=False)

    @property
    def layout(self) -> Layout:
        return self.settings.layout

    @property
    def release(self) -> Release:
        return self.files.release

    @property
    def nqr(self) -> ReleaseFiles:
        """The release that nqr itself is installed from."""
        return self.own or self.files

    @property
    def speaks_our_api(self) -> bool:
        """Whether manager and agent are this project's. Those of upstream read other variables and no documents of nqr."""
        return self.release.form == "bundled"

    @property
    def installer_venv(self) -> str:
        return f"{self.layout.installer_dir}/venv"

    @property
    def supervisord(self) -> Supervisord:
        """The location of nqr's own supervisord, on hosts without systemd."""
        return registry.supervisord_of(self.layout)

    @property
    def supervisor(self) -> Supervisor:
        return self.looked or registry.for_facts(self.facts.supervisor, self.supervisord)

    @property
    def own_bridge(self) -> OwnBridge | None:
        """nqr's own bridge to the LAN of these settings, if an earlier run made it."""
        return next((one for one in self.own_bridges if one.bridge == self.settings.network.bridge_name), None)

    @property
    def has_systemd(self) -> bool:
        return self.facts.supervisor == "systemd"

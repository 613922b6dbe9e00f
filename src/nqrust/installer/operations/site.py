"""The local machine and nqr's records about it, opened once per operation."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import ValidationError

from nqrust.contract import paths
from nqrust.contract.images import CONTAINER_RUNTIME
from nqrust.host.content import content
from nqrust.host.environment import reach
from nqrust.host.facts.gather import gather
from nqrust.host.facts.model import Facts
from nqrust.host.local import LocalHost
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.host.way import leads
from nqrust.image.guest_agent import find_program
from nqrust.installer import secret_store
from nqrust.installer.context import Context, ReleaseFiles, Secrets
from nqrust.installer.distro.registry import kin
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import Notice, Reporter, StepProgress
from nqrust.installer.engine.journal import Journal, JournalStore
from nqrust.installer.engine.journal_file import CrashingJournalStore, FileJournalStore, ReadOnlyJournalStore
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.step import Satisfied, Step
from nqrust.installer.operations import database_authority, own_certificate
from nqrust.installer.phases.services import folders_of_services
from nqrust.installer.platform import node
from nqrust.installer.platform.firecracker.source import Source, source
from nqrust.installer.release.build_step import BuildRelease
from nqrust.installer.release.bundle.opening import FIRECRACKER, Bundle
from nqrust.installer.release.descriptor import ComponentKind, Release
from nqrust.installer.release.installed import installed_release
from nqrust.installer.release.interpreter import interpreter
from nqrust.installer.release.node_wheel import LOCK
from nqrust.installer.release.source_tree.tree_step import BuildTree, tools
from nqrust.installer.release.sources import kept_release, open_own, open_source, own_steps, source_steps
from nqrust.installer.reporting.logfile import log_command
from nqrust.installer.request import Request
from nqrust.installer.settings.model import DbType, Settings, VmmChoice
from nqrust.installer.verbs.kernel.sysctl import forwards_for_others, routed
from nqrust.installer.verbs.network.own_card import OwnBridge, own_bridges
from nqrust.installer.verbs.packages.registry import installed
from nqrust.installer.verbs.postgres.database import Database
from nqrust.installer.verbs.service.unit import Service

CRASH_AFTER, CRASH_BEFORE = "NQR_CRASH_AFTER_APPEND", "NQR_CRASH_BEFORE_APPEND"
"""Only the test suite's kill matrix sets these: the process ends with SIGKILL at its n-th journal record."""


@dataclass
class Site:
    """`host` with its journal, originals and receipt, for reading: the journal accepts no records."""

    host: Host
    journal: Journal
    originals: Originals

    @property
    def receipt(self) -> Receipt:
        return Receipt.of(self.journal)

    @property
    def installed_settings(self) -> Settings | None:
        """Return the settings of the installation on this host, finished or not, or None."""
        receipt = self.receipt
        if not receipt.installed or not receipt.last_settings:
            return None
        return Settings.model_validate(receipt.last_settings)

    @property
    def former_settings(self) -> tuple[Settings, ...]:
        """Return the settings of every run on the receipt, oldest first. Repeated settings count once, at their last run.
        Omits settings from other versions of nqr that this one cannot read."""
        found: list[Settings] = []
        for run in self.receipt.runs:
            with contextlib.suppress(ValidationError):
                if run.settings:
                    settings = Settings.model_validate(run.settings)
                    found = [*(one for one in found if one != settings), settings]
        return tuple(found)

    @property
    def own_bridges(self) -> tuple[OwnBridge, ...]:
        """Return the bridges to the LAN that nqr made here."""
        return own_bridges(self.host, (undo for entry in self.receipt.entries for undo in entry.undo))

    @property
    def services(self) -> tuple[str, ...]:
        """Return the names of the services on the receipt, regardless of the current settings."""
        entries = self.receipt.entries
        return tuple(dict.fromkeys(e.step_id.removeprefix("service:") for e in entries if e.kind == Service.kind))

    @property
    def vms(self) -> tuple[str, ...]:
        """Return the folders of this host's VMs, running or not."""
        settings = self.installed_settings
        folder = settings.layout.vms_dir if settings else ""
        if not folder or not self.host.exists(folder):
            return ()
        return tuple(f"{folder}/{name}" for name in content(self.host, folder))


class ChangingSite(Site):
    """A site that may be changed. `gate.carry_out` ensures that its owner holds the installer's lock and is not a dry run."""


def open_site(events: Reporter) -> Site:
    """Open the site for reading. Raises JournalError if the journal is unreadable or untrusted."""
    host = LocalHost(observe=log_command)
    return Site(host, _journal(ReadOnlyJournalStore(paths.JOURNAL), host, events), Originals(host, paths.ORIGINALS_DIR))


def open_to_change(events: Reporter) -> ChangingSite:
    """Open the site for changes. Only `gate.carry_out` may call it. Raises JournalError if the journal is unreadable or
    untrusted."""
    host = LocalHost(observe=log_command)
    return ChangingSite(host, _journal(_store(), host, events), Originals(host, paths.ORIGINALS_DIR))


def _journal(store: JournalStore, host: Host, events: Reporter) -> Journal:
    journal = Journal(store, host.now, program=paths.NQR_LINK)
    if journal.torn:
        events.emit(
            Notice(
                "warning",
                "A crash damaged the last line of the journal, and nqr dropped it. The step of that line had not begun.",
                "NQR-ENG-015",
            )
        )
    return journal


def _store() -> JournalStore:
    after, before = _number(CRASH_AFTER), _number(CRASH_BEFORE)
    if after or before:
        return CrashingJournalStore(paths.JOURNAL, after=after, before=before)
    return FileJournalStore(paths.JOURNAL)


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else 0


def facts_for(host: Host, settings: Settings) -> Facts:
    p = settings.paths
    folders = tuple(dict.fromkeys((p.install_dir, p.data_dir, p.image_dir, "/var/lib")))
    return gather(host, paths_for_disk=folders, packages=installed(host))


def progress_to(events: Reporter, step: str) -> Callable[[str, float | None], None]:
    """Return a `progress` callback for a step that emits events."""
    return lambda text, fraction: events.emit(StepProgress(step, text, fraction))


def make_context(
    site: Site, request: Request, facts: Facts, events: Reporter, *, looking: bool = False, going_back: bool = False
) -> Context:
    """Return everything the phases need. Reads only: it describes a release but does not build it. New secrets stay in memory
    until a step stores them. `looking`: at the installation as it is, so that a release from elsewhere is read here, and
    certificates are no obstacle. `going_back`: to earlier settings, whose certificates may have ended since."""
    settings = request.settings
    secrets = _secrets(site, request)
    python = interpreter(settings.layout.install_dir)
    checkout = request.environment.checkout
    files, bundle = _files(site.host, settings, checkout, events, looking)
    made_database = any(("database", settings.database.name) in entry.names for entry in site.receipt.entries)
    own = _own_files(site.host, settings, checkout, events) if files.release.form != "bundled" else None
    if own is not None:
        locked = (replace(s, lock=f"{own.directory}/{LOCK}") if isinstance(s, BuildTree) else s for s in files.steps)
        files = replace(files, steps=tuple(locked))
    undos = [undo for entry in site.receipt.entries for undo in entry.undo]
    if looking:
        own_tls = own_certificate.read_installed(site.host, settings)
        database_ca = database_authority.read_installed(site.host, settings)
    else:
        installed = site.installed_settings
        own_tls = own_certificate.read(site.host, settings, installed, any_date=going_back)
        database_ca = database_authority.read(site.host, settings, installed, any_date=going_back)
    return Context(
        settings=settings,
        facts=facts,
        secrets=secrets,
        files=files,
        own=own,
        node=_node(site.host, settings, files.release, facts),
        python=python,
        build_roles=_build_roles(site.host, settings, (*files.steps, *(own.steps if own else ())), facts),
        explicit=request.explicit,
        own_tls=own_tls,
        database_ca=database_ca,
        own_database=made_database,
        first=not made_database and not site.receipt.created(f"{Database.kind}:{settings.database.name}"),
        former=site.former_settings,
        own_bridges=site.own_bridges,
        vms=bool(site.vms),
        routed=routed(site.host, undos),
        forwards=lambda: forwards_for_others(site.host, undos),
        leads={folder: tuple(leads(site.host, folder)) for folder in folders_of_services(settings.layout)},
        tell=lambda text: events.emit(Notice("info", text)),
        interruption=request.run.interruption,
        reach=reach(site.host.environment()),
        firecracker=_firecracker(settings, bundle) if settings.has_agent else None,
        progress=progress_to(events, ""),
    )


def _secrets(site: Site, request: Request) -> Secrets:
    """Return the stored secrets, or new ones, with those that the request brings. The first password of the administrator is
    the manager's after the first install, so a later one changes nothing."""
    stored, given = secret_store.load(site.host), request.environment
    secrets = stored or secret_store.generate()
    if given.db_password:
        secrets = replace(secrets, db_password=given.db_password)
    if given.admin_password and stored is None:
        secrets = replace(secrets, admin_password=given.admin_password, known_hash="")
    if request.settings.has_manager:
        return secrets
    if given.join_token:
        return replace(secrets, join_token=given.join_token)
    path = request.settings.agent.join_token_file
    return replace(secrets, join_token=Secret(_first_line(site.host, path))) if path else secrets


def _firecracker(settings: Settings, bundle: Bundle | None) -> Source | None:
    """Return where Firecracker comes from. With a bundle that is an archive, or nothing: a host without a network downloads none.
    Raises ReleaseError NQR-REL-066, StepFailed."""
    found = source(settings.firecracker_version, settings.firecracker)
    if bundle is None or found.archive:
        return found
    if bundle.firecracker:
        archive = f"{bundle.directory}/{FIRECRACKER}"
        return Source("", bundle.firecracker, archive=archive, chosen=settings.firecracker_version, bundled=True)
    if settings.vmm is VmmChoice.firecracker:
        raise ReleaseError(
            "NQR-REL-066",
            "The bundle holds no Firecracker, and --vmm firecracker asks for it.",
            "Name an archive with --firecracker, use --vmm qemu, or build the bundle with scripts/install/bundle.sh --firecracker FILE.",
        )
    return None


def _files(host: Host, settings: Settings, checkout: str, events: Reporter, looking: bool) -> tuple[ReleaseFiles, Bundle | None]:
    release = installed_release(host, settings) if looking else None
    if release is not None and (settings.release.source != "bundled" or settings.release.source_dir):
        built = f"{paths.CACHE_DIR}/releases/{release.version}"  # of a tree that may have changed since
        kept = settings.release.source == "bundled" and release.form == "bundled"
        return ReleaseFiles(release, kept_release(settings) if kept else built), None
    opened = open_source(host, settings, checkout, paths.CACHE_DIR, events)
    steps = source_steps(settings, checkout, opened, paths.CACHE_DIR, progress_to(events, ""))
    unpacked = opened.bundle.directory if opened.bundle else ""
    images = opened.bundle.images if opened.bundle else ()
    if opened.bundle and settings.components.container_runtime and CONTAINER_RUNTIME not in images:
        raise ReleaseError(
            "NQR-REL-052",
            "The bundle has neither the image container-runtime nor the packages to build it.",
            "Add --no-container-runtime, or build the bundle with --with container-runtime.",
        )
    return ReleaseFiles(opened.release, opened.directory, steps, opened.signed_by, unpacked, images), opened.bundle


def _own_files(host: Host, settings: Settings, checkout: str, events: Reporter) -> ReleaseFiles:
    """Return nqr's own files, for a release that nqr is not part of."""
    opened = open_own(host, settings, checkout, paths.CACHE_DIR)
    return ReleaseFiles(
        opened.release, opened.directory, own_steps(settings, checkout, opened, paths.CACHE_DIR, progress_to(events, ""))
    )


def _node(host: Host, settings: Settings, release: Release, facts: Facts) -> node.Node | None:
    ui, distro = release.component("ui"), kin(facts.os)
    if not settings.has_ui or ui is None or ui.kind is not ComponentKind.node:
        return None
    return node.find(host, settings.layout.bin_dir, distro.versions if distro else {})


def _build_roles(host: Host, settings: Settings, steps: tuple[Step, ...], facts: Facts) -> tuple[str, ...]:
    """Return the roles of compilers if a release is still to be built here and the machine has no compiler."""
    building = [s for s in steps if isinstance(s, BuildRelease | BuildTree) and not isinstance(s.inspect(host), Satisfied)]
    distro = kin(facts.os)
    for step in building:
        if isinstance(step, BuildTree):
            database = settings.has_manager and settings.database.type is DbType.local
            return tools(host, step.tree, distro.versions if distro else {}, database=database)
    have = find_program(host, "cargo") or find_program(host, "rustc")
    return ("rust",) if building and not have else ()


def _first_line(host: Host, path: str) -> str:
    lines = host.read_text(path).split() if host.exists(path) else []
    return lines[0] if lines else ""

"""Checks for contradictory settings. Each error names the settings and their sources. nqr never accepts an option without
effect."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Protocol

from nqrust.installer.engine.errors import UsageError
from nqrust.installer.settings.model import DbType, Mode, NetworkMode, Settings, VmmChoice
from nqrust.installer.settings.options import BY_NAME
from nqrust.installer.settings.record import value_of

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})


class Source(Protocol):
    @property
    def value(self) -> object: ...
    @property
    def kind(self) -> str: ...
    @property
    def label(self) -> str: ...


def check_consistency(settings: Settings, given: Mapping[str, Source], notes: list[str]) -> None:
    """Check the settings together and add remarks to `notes`. `given`: the settings that are not defaults.

    Raises UsageError NQR-CFG-009 (contradiction) or NQR-CFG-012 (a named file is missing).
    """
    _ui_fits_mode(settings, given, notes)
    _database(settings, given)
    _listeners_differ(settings)
    _bridge_is_not_the_uplink(settings)
    _named_files_exist(settings, given)
    _all_have_an_effect(settings, given, notes)


def _ui_fits_mode(settings: Settings, given: Mapping[str, Source], notes: list[str]) -> None:
    item = given.get("components.ui")
    if item is None or not settings.components.ui or settings.mode not in (Mode.minimal, Mode.agent):
        return
    mode = settings.mode.value
    if item.kind in ("flag", "config"):
        raise UsageError(
            "NQR-CFG-009",
            f"Mode {mode} has no web UI, but {item.label} asks for one.",
            "Leave it out, or choose --mode production.",
        )
    notes.append(f"Mode {mode} has no web UI; the {item.label} that asks for one has no effect.")


_HAS_AGENT = (lambda s: s.has_agent, "hosts with an agent (any mode but manager)")
_FIRECRACKER = (lambda s: s.has_agent and s.vmm is not VmmChoice.qemu, "hosts with an agent and --vmm auto or firecracker")
_HAS_MANAGER = (lambda s: s.has_manager, "hosts with a manager (any mode but agent)")
_REMOTE_DATABASE = (lambda s: s.has_remote_database, "a database on another host (--db-type remote)")
_AGENT_ONLY = (lambda s: not s.has_manager, "mode agent")
_HAS_UI = (lambda s: s.has_ui, "hosts with the web UI")
_OWN_NETWORK = (lambda s: s.has_agent and s.network.mode is not NetworkMode.bridged, "NAT and isolated networks")
_BRIDGED = (lambda s: s.has_agent and s.network.mode is NetworkMode.bridged, "bridged networks")
_BUNDLED = (lambda s: s.release.source == "bundled", "the bundled release")
_FETCHED = (lambda s: s.release.source != "bundled", "a release that is fetched")
_DOWNLOADED = (
    lambda s: s.release.source.startswith(("http://", "https://", "github:")),
    "a release from an address or from GitHub",
)
APPLIES: dict[str, tuple[Callable[[Settings], bool], str]] = {
    "network.mode": _HAS_AGENT,
    "network.uplink": _BRIDGED,
    "network.window": _BRIDGED,
    "network.cidr": _OWN_NETWORK,
    "network.dhcp_first": _OWN_NETWORK,
    "network.dhcp_last": _OWN_NETWORK,
    "vmm": _HAS_AGENT,
    "firecracker_version": _FIRECRACKER,
    "firecracker": _FIRECRACKER,
    "nested": _HAS_AGENT,
    "release.source_dir": _BUNDLED,
    "release.public_key": _FETCHED,
    "release.mirror": _DOWNLOADED,
    "database.type": _HAS_MANAGER,
    "database.host": _HAS_MANAGER,
    "database.port": _HAS_MANAGER,
    "database.name": _HAS_MANAGER,
    "database.user": _HAS_MANAGER,
    "database.password_file": _HAS_MANAGER,
    "database.ca": _REMOTE_DATABASE,
    "agent.manager_base": _AGENT_ONLY,
    "agent.join_token_file": _AGENT_ONLY,
    "agent.bind": _HAS_AGENT,
    "agent.name": _HAS_AGENT,
    "agent.advertise_address": _HAS_AGENT,
    "manager.bind": _HAS_MANAGER,
    "manager.allow_image_paths": _HAS_MANAGER,
    "manager.disk_overcommit": _HAS_MANAGER,
    "manager.reconciler_disabled": _HAS_MANAGER,
    "manager.events_days": _HAS_MANAGER,
    "manager.audit_days": _HAS_MANAGER,
    "manager.operations_days": _HAS_MANAGER,
    "ui.bind": _HAS_UI,
    "tls.mode": _HAS_MANAGER,
    "tls.certificate": _HAS_MANAGER,
    "tls.key": _HAS_MANAGER,
}
"""Setting -> the condition under which it has an effect, and its description. Other settings always have one."""


def _all_have_an_effect(settings: Settings, given: Mapping[str, Source], notes: list[str]) -> None:
    """Refuse a flag without effect. For environment and file, add a note instead: they may serve several hosts."""
    defaults = Settings()
    for name, (applies, where) in APPLIES.items():
        item = given.get(name)
        if item is None or item.kind == "recorded" or applies(settings) or value_of(settings, name) == value_of(defaults, name):
            continue
        if item.kind == "flag":
            raise UsageError(
                "NQR-CFG-009",
                f"{BY_NAME[name].flag} has no effect here: it is for {where}.",
                "Leave it out, or change the mode, network mode or release that you ask for.",
            )
        notes.append(f"{name} ({item.label}) has no effect here: it is for {where}.")


def _database(settings: Settings, given: Mapping[str, Source]) -> None:
    database = settings.database
    if not settings.has_manager:
        return
    if database.type is DbType.local and database.host not in _LOCAL_HOSTS:
        raise UsageError(
            "NQR-CFG-009",
            f"The database is local, but its host is {database.host} ({given['database.host'].label}).",
            "Add --db-type remote, or leave the host out.",
        )
    if database.type is DbType.remote and "database.host" not in given:
        raise UsageError(
            "NQR-CFG-009",
            "The database is remote, but its host was not given.",
            "Add --db-host HOST (or DB_HOST, or database.host in the configuration file).",
        )


def _listeners_differ(settings: Settings) -> None:
    binds = [
        (wanted, name, bind)
        for wanted, name, bind in (
            (settings.has_manager, "manager.bind", settings.manager.bind),
            (settings.has_agent, "agent.bind", settings.agent.bind),
            (settings.has_ui, "ui.bind", settings.ui.bind),
        )
        if wanted
    ]
    ports: dict[str, str] = {}
    for _, name, bind in binds:
        port = bind.rpartition(":")[2]
        if port in ports:
            raise UsageError(
                "NQR-CFG-009",
                f"{ports[port]} and {name} both want port {port}.",
                f"Give one of them another port with {BY_NAME[name].flag}.",
            )
        ports[port] = name


def _bridge_is_not_the_uplink(settings: Settings) -> None:
    network = settings.network
    if network.bridge_name in ("lo", network.uplink):
        raise UsageError(
            "NQR-CFG-009",
            f"The bridge cannot be {network.bridge_name}, which is another interface of this host.",
            "Choose another name with --bridge-name, for example fcbr0.",
        )


def _named_files_exist(settings: Settings, given: Mapping[str, Source]) -> None:
    wanted = (
        ("release.source_dir", settings.release.source_dir, os.path.isdir, "folder"),
        ("release.public_key", settings.release.public_key, os.path.isfile, "file"),
        ("agent.join_token_file", settings.agent.join_token_file, os.path.isfile, "file"),
    )
    for name, path, is_there, what in wanted:
        item = given.get(name)
        # A host uses its join token once, so a re-run must not require the file.
        if path and item and item.kind != "recorded" and not is_there(path):
            raise UsageError(
                "NQR-CFG-012",
                f"{path} ({item.label}) is not a {what} of this host.",
                f"Give {BY_NAME[name].flag} the path of an existing {what}.",
            )

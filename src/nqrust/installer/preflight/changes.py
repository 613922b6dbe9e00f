"""Effects of a changed setting in a re-run: one row per setting, and checks that refuse a change.

nqr refuses a change that would lose VMs or data, before it changes anything. docs/reference/settings.md shows the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from nqrust.host.facts.model import Facts
from nqrust.installer.preflight.findings import Finding, error
from nqrust.installer.settings.model import DbType, NetworkMode, Settings
from nqrust.installer.settings.record import value_of
from nqrust.installer.verbs.postgres.cluster import expected_port


class How(str, Enum):
    """The effect of a change."""

    in_place = "in place"  # the same object gets new content
    replaced = "replaced"  # nqr removes the objects of the old value and creates those of the new one
    refused = "refused"  # nothing changes


@dataclass(frozen=True)
class Change:
    """`text`: a sentence for the documentation. If `how` is `replaced`, it also names the refused cases."""

    how: How
    text: str


CHANGES: dict[str, Change] = {
    "mode": Change(
        How.replaced,
        "`production`, `dev`, `minimal` and `manager` change into each other. Refused: to `manager` while this host has VMs; "
        "to or from `agent`.",
    ),
    "network.mode": Change(
        How.replaced,
        "`nat` and `isolated` change into each other while VMs run. Refused: to or from `bridged` while this host has VMs.",
    ),
    "network.bridge_name": Change(
        How.replaced, "nqr removes the old bridge, then adds the new one. Refused while this host has VMs."
    ),
    "network.uplink": Change(
        How.in_place, "Only `bridged` mode uses it. Refused if nqr has put another card into the bridge of these settings."
    ),
    "network.window": Change(How.in_place, "Applies when nqr moves a network card next."),
    "network.cidr": Change(
        How.in_place, "The bridge, the firewall and DHCP get the new network. Refused while this host has VMs."
    ),
    "network.dhcp_first": Change(How.in_place, "VMs keep their addresses. New VMs get addresses from the new range."),
    "network.dhcp_last": Change(How.in_place, "VMs keep their addresses. New VMs get addresses from the new range."),
    "components.ui": Change(
        How.replaced, "Off: nqr removes its service and files. Its Python packages stay until the next release."
    ),
    "components.container_runtime": Change(
        How.replaced, "Off: the image is data and stays. `nqr image rm container-runtime` removes it."
    ),
    "vmm": Change(
        How.in_place, "New VMs use it. Existing VMs keep theirs. With `qemu`, nqr removes Firecracker once this host has no VM."
    ),
    "firecracker_version": Change(How.in_place, "New VMs use it. Running VMs keep theirs until they stop."),
    "firecracker": Change(How.in_place, "New VMs use it. Running VMs keep theirs until they stop."),
    "nested": Change(How.in_place, "The module option changes. It applies from the next load of the module."),
    "release.source": Change(How.in_place, "Another release gets its own folder, and the old one stays."),
    "release.source_dir": Change(How.in_place, "Another release gets its own folder, and the old one stays."),
    "release.public_key": Change(How.in_place, "nqr checks the next release with it."),
    "release.mirror": Change(How.in_place, "nqr asks it for files of the next release."),
    "database.type": Change(How.refused, "Refused: the other database is empty, so the VMs would be lost."),
    "database.host": Change(
        How.in_place, "Refused if the database there belongs to another installation. Another name of this host is accepted."
    ),
    "database.port": Change(
        How.in_place, "Refused for a local database, and if the database there belongs to another installation."
    ),
    "database.name": Change(
        How.in_place, "Refused for a local database, and if the database there belongs to another installation."
    ),
    "database.user": Change(
        How.in_place, "Refused for a local database, and if the database there belongs to another installation."
    ),
    "database.password_file": Change(How.in_place, "The role of a local database gets the new password."),
    "database.ca": Change(
        How.in_place, "The manager restarts, unless only the content of the file changed. New connections then use it."
    ),
    "agent.manager_base": Change(
        How.in_place, "The agent moves to that manager. Refused while this host has VMs that the new manager does not know."
    ),
    "agent.join_token_file": Change(How.in_place, "An agent that has joined does not need it again."),
    "agent.bind": Change(How.in_place, "The agent restarts and informs the manager. VMs run on."),
    "agent.name": Change(How.in_place, "The agent restarts and informs the manager. VMs run on."),
    "agent.advertise_address": Change(How.in_place, "The agent restarts and informs the manager. VMs run on."),
    "manager.bind": Change(How.in_place, "The manager and its clients on this host restart."),
    "manager.allow_image_paths": Change(How.in_place, "The manager restarts."),
    "manager.disk_overcommit": Change(How.in_place, "The manager restarts."),
    "manager.reconciler_disabled": Change(How.in_place, "The manager restarts."),
    "manager.events_days": Change(How.in_place, "The manager restarts. It deletes older events 15 minutes later."),
    "manager.audit_days": Change(How.in_place, "The manager restarts. It deletes older entries 15 minutes later."),
    "manager.operations_days": Change(How.in_place, "The manager restarts. It deletes older operations 15 minutes later."),
    "ui.bind": Change(How.in_place, "The web UI restarts."),
    "tls.mode": Change(How.in_place, "The manager and the web UI restart."),
    "tls.certificate": Change(How.in_place, "The manager restarts, and the web UI reads the new one. Agents do not notice."),
    "tls.key": Change(How.in_place, "The manager restarts, and the web UI reads the new one. Agents do not notice."),
    "paths.install_dir": Change(How.refused, "Refused: nqr cannot move running programs."),
    "paths.data_dir": Change(How.refused, "Refused: the folder holds disks of VMs."),
    "paths.config_dir": Change(How.refused, "Refused: the folder holds the services' settings and secrets."),
    "paths.image_dir": Change(How.refused, "Refused: the folder holds images."),
}

FIRM = frozenset({"NQR-PRE-060", "NQR-PRE-061", "NQR-PRE-062", "NQR-PRE-063", "NQR-PRE-064"})
"""Refusals that --ignore-preflight does not lift, because the install would lose VMs or break running services."""


def checks(now: Settings, was: Settings | None, facts: Facts, vms: tuple[str, ...]) -> Iterator[Finding]:
    """Yield the refused changes. `was`: settings of the installation on this host, or None; `vms`: folders of its VMs."""
    if was is None:
        return
    yield from folders(now, was)
    yield from _mode(now, was, vms)
    yield from _database(now, was, facts)
    yield from _network(now, was, vms)


def folders(now: Settings, was: Settings | None) -> Iterator[Finding]:
    """Yield the refused changes of folders, which nqr checks before anything else."""
    if was is None:
        return
    for name in ("paths.install_dir", "paths.data_dir", "paths.config_dir", "paths.image_dir"):
        old, new = value_of(was, name), value_of(now, name)
        if old != new:
            yield error(
                "NQR-PRE-060",
                f"{name} is {old} on this host. An install cannot change it to {new}.",
                f"Keep {old}. Or run `nqr uninstall`, move the remaining data, and install with {new}.",
            )


def _mode(now: Settings, was: Settings, vms: tuple[str, ...]) -> Iterator[Finding]:
    if was.has_manager != now.has_manager:
        lost = "its manager and the VMs that it knows" if was.has_manager else "the manager that it has joined"
        yield error(
            "NQR-PRE-061",
            f"This host is in mode {was.mode.value} and cannot become {now.mode.value} in place: it would lose {lost}.",
            f"Run `nqr uninstall` first, then `nqr install --mode {now.mode.value}`.",
        )
    elif was.has_agent and not now.has_agent and vms:
        yield _vms_in_the_way(f"change its mode from {was.mode.value} to {now.mode.value}", vms)


def _database(now: Settings, was: Settings, facts: Facts) -> Iterator[Finding]:
    if not (was.has_manager and now.has_manager):
        return
    old, new = was.database, now.database
    if old.type is not new.type:
        yield error(
            "NQR-PRE-062",
            f"The database of this installation is {old.type.value} and cannot become {new.type.value} in place: "
            "the other one is empty, and the VMs would be lost.",
            f"Keep --db-type {old.type.value}; or remove the VMs, run `nqr uninstall`, and install with {new.type.value}.",
        )
        return
    if new.type is DbType.remote:  # reach.py checks whether that database belongs to this installation
        return
    changed = [
        f"{name} ({value_of(was, name)} to {value_of(now, name)})"
        for name in ("database.name", "database.user")
        if value_of(was, name) != value_of(now, name)
    ]
    ports = [expected_port(facts.postgres, facts.ports, db.port) for db in (old, new)]
    if ports[0] != ports[1]:
        changed.append(f"database.port ({ports[0]} to {ports[1]})")
    if changed:
        yield error(
            "NQR-PRE-062",
            f"The local database cannot change in place: {', '.join(changed)}. The new one is empty, and the VMs would be lost.",
            "Keep these settings. Or remove the VMs, run `nqr uninstall --drop-database`, and install again.",
        )


def _network(now: Settings, was: Settings, vms: tuple[str, ...]) -> Iterator[Finding]:
    if not (was.has_agent and now.has_agent and vms):
        return
    old, new = was.network, now.network
    bridged = {n.mode for n in (old, new)} != {old.mode} and NetworkMode.bridged in (old.mode, new.mode)
    changed = [
        f"{name} from {value_of(was, name)} to {value_of(now, name)}"
        for name, counts in (
            ("network.mode", bridged),
            ("network.bridge_name", old.bridge_name != new.bridge_name),
            ("network.cidr", old.cidr != new.cidr and NetworkMode.bridged not in (old.mode, new.mode)),
        )
        if counts
    ]
    if changed:
        yield _vms_in_the_way(f"change {' and '.join(changed)}", vms)


def _vms_in_the_way(what: str, vms: tuple[str, ...]) -> Finding:
    count = f"{len(vms)} VM{'s' if len(vms) > 1 else ''}"
    return error(
        "NQR-PRE-063",
        f"This host cannot {what} while it has {count} ({', '.join(vms[:3])}{' …' if len(vms) > 3 else ''}).",
        "Delete the VMs first (`nqr vm ls`, `nqr vm rm NAME`), then run the same command again.",
    )

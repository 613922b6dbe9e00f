"""The undo script of this host. Every run that changes the receipt updates it.

It is in the state folder, beside the journal that it is generated from. There it survives the programs while data stays, and
is removed with the last record. The installation's scripts folder has a link to it.
"""

from __future__ import annotations

from dataclasses import replace

from nqrust.contract import paths
from nqrust.host.errors import HostError
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.operations.site import ChangingSite, Site
from nqrust.installer.operations.taking_back import forget_script, undo_context
from nqrust.installer.release import bootstrap_record
from nqrust.installer.request import Summary
from nqrust.installer.verbs.script import standing as standing_script


def keep_current(site: ChangingSite, done: Summary) -> Summary:
    """Update the script to match the receipt and return `done`. A write failure only adds a note."""
    try:
        _keep(site)
    except (NqrError, HostError) as error:
        return replace(done, notes=(*done.notes, f"{paths.UNDO_SCRIPT} is not current: {str(error).rstrip('.')}."))
    return done


def _keep(site: ChangingSite) -> None:
    entries = site.receipt.entries
    host = site.host
    if not entries or not host.exists(paths.STATE_DIR):
        return
    wanted = standing_script.head(entries, len(site.journal.records), _last(site, False)).encode("utf-8", "surrogateescape")
    stat = host.stat(paths.UNDO_SCRIPT)
    if stat is not None and stat.mode == 0o700 and host.read_bytes(paths.UNDO_SCRIPT, len(wanted)) == wanted:
        return
    host.write_file(paths.UNDO_SCRIPT, text(site).encode("utf-8", "surrogateescape"), mode=0o700)


def text(site: Site) -> str:
    """Return the script for this host's receipt. Raises NqrError, HostError."""
    entries = site.receipt.entries
    kept = tuple(entry for entry in entries if entry.retain is Retain.database)
    return standing_script.render(
        undo_context(site, ()),
        undo_context(site, kept),
        entries,
        path=paths.UNDO_SCRIPT,
        journal=paths.JOURNAL,
        records=len(site.journal.records),
        epilogue=lambda keep_packages: _last(site, keep_packages),
    )


def _last(site: Site, keep_packages: bool) -> str:
    """Return commands that remove the rest: state, logs, and the bootstrap's cache and packages."""
    record = bootstrap_record.read(site.host)
    farewell = "" if record is None else bootstrap_record.farewell(record, keep_packages=keep_packages)
    return f"{forget_script()}{farewell}"

"""The one way from a request to a change of this host.

An operation first looks, and describes its changes as a Prospect. Only this module decides whether to show them
(`--dry-run`), ask about them, or make them. Only this module creates a ChangingSite, which every function that changes the
host requires. A dry run has a Site, whose journal is read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nqrust.contract import paths
from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import Notice, Reporter
from nqrust.installer.engine.lock import exclusive
from nqrust.installer.operations import standing_undo, summary
from nqrust.installer.operations.site import ChangingSite, Site, open_site, open_to_change
from nqrust.installer.request import PlanPreview, Request, Summary
from nqrust.installer.verbs.network.guard import asking


@dataclass(frozen=True)
class Prospect:
    """The changes an operation would make here. `preview` only reads; `change` makes them. Both may raise NqrError."""

    preview: Callable[[], PlanPreview]
    change: Callable[[ChangingSite], Summary]


def carry_out(request: Request, verb: str, events: Reporter, look: Callable[[Site], Prospect]) -> Summary:
    """Run an operation and return its summary. `look` only reads. A dry run takes no lock, asks nothing and returns the
    preview. Any other run holds the installer's lock, and asks if the request requires it. Errors are in the summary, never
    raised."""
    try:
        if request.run.dry_run:
            return summary.previewed(look(open_site(events)).preview(), request)
        with exclusive(paths.LOCK_FILE, verb, events) as while_asking:
            site = open_to_change(events)
            old_network_first(site.host, events)
            prospect = look(site)
            if request.run.confirm is not None:
                preview = prospect.preview()
                with while_asking():
                    declined = preview.changes and not request.run.confirm(preview)
                if declined:
                    return summary.declined(request)
            return standing_undo.keep_current(site, _changed(prospect, site, request))
    except NqrError as error:
        return summary.refused(error, request)


@contextmanager
def alone(verb: str) -> Iterator[None]:
    """Hold the installer's lock while the block starts or stops the installation, which changes nothing on its receipt. Raises
    Locked."""
    with exclusive(paths.LOCK_FILE, verb):
        yield


def old_network_first(host: Host, events: Reporter) -> None:
    """Without systemd, put the old network back if a restart came into the window of its guard. systemd does it at the boot."""
    if host.exists("/run/systemd/system"):
        return
    try:
        if asking.at_start(host):
            events.emit(Notice("info", "The old network is back: a restart had interrupted the change of this host's network."))
    except HostError:
        return  # the guard is still there, and every change of the network refuses because of it (NQR-NET-141)


def _changed(prospect: Prospect, site: ChangingSite, request: Request) -> Summary:
    try:
        return prospect.change(site)
    except NqrError as error:
        return summary.refused(error, request)

"""The one way from a request to a change of this host.

An operation first looks, and says what it would do as a Prospect. Whether that is then only shown (`--dry-run`), asked about,
or carried out is decided here and nowhere else. Only this module makes a ChangingSite, which all that changes the host asks
for; a dry run has a Site whose journal cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nqrust.contract import paths
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import Reporter
from nqrust.installer.engine.lock import exclusive
from nqrust.installer.operations import standing_undo, summary
from nqrust.installer.operations.site import ChangingSite, Site, open_site, open_to_change
from nqrust.installer.request import PlanPreview, Request, Summary


@dataclass(frozen=True)
class Prospect:
    """What an operation would do here. `preview` reads only; `change` does it. Both may raise NqrError."""

    preview: Callable[[], PlanPreview]
    change: Callable[[ChangingSite], Summary]


def carry_out(request: Request, verb: str, events: Reporter, look: Callable[[Site], Prospect]) -> Summary:
    """`look` reads only. A dry run takes no lock, asks nothing and gives the preview; any other run holds the installer's
    lock, and asks where the request says so. Errors come in the summary, never raised."""
    try:
        if request.run.dry_run:
            return summary.previewed(look(open_site(events)).preview(), request)
        with exclusive(paths.LOCK_FILE, verb, events):
            site = open_to_change(events)
            prospect = look(site)
            if request.run.confirm is not None:
                preview = prospect.preview()
                if preview.changes and not request.run.confirm(preview):
                    return summary.declined(request)
            return standing_undo.keep_current(site, _changed(prospect, site, request))
    except NqrError as error:
        return summary.refused(error, request)


def _changed(prospect: Prospect, site: ChangingSite, request: Request) -> Summary:
    try:
        return prospect.change(site)
    except NqrError as error:
        return summary.refused(error, request)

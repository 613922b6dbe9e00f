"""Step: remember the version of a signed release, so that this host refuses older ones."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import ClassVar

from nqrust.contract.paths import NEWEST_RELEASES
from nqrust.host.port import Host
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.release import newest, versions
from nqrust.installer.release.folders import ensure_private


@dataclass(frozen=True)
class RememberRelease:
    """Raise the newest version of the key `signed_by` to `version`.

    The record never goes back, not even in a rollback: the publisher's newer release exists all the same. It goes with nqr's
    other records, when an uninstall has nothing left to undo.
    """

    signed_by: str
    version: str
    path: str = NEWEST_RELEASES

    kind: ClassVar[str] = "remember-release"

    @property
    def id(self) -> str:
        return "remember-release"

    def describe(self) -> str:
        return f"remember {self.version} as the newest release of this key"

    def inspect(self, host: Host) -> Inspection:
        known = newest.seen(host, self.path).get(self.signed_by)
        if known is None or versions.is_older(known, self.version):
            return Needed((*((f"- {self.path} {known}",) if known else ()), f"+ {self.path} {self.version}"))
        stat = host.stat(self.path)
        if stat is None or (stat.mode, stat.owner, stat.group) != (newest.MODE, "root", "root"):
            return Needed((f"~ {self.path}",))
        return Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, ())

    def apply(self, host: Host) -> None:
        known = newest.seen(host, self.path)
        if self.signed_by not in known or versions.is_older(known[self.signed_by], self.version):
            known[self.signed_by] = self.version
        ensure_private(host, posixpath.dirname(self.path), 0o711)
        host.write_file(self.path, newest.render(known), mode=newest.MODE, owner="root", group="root")

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

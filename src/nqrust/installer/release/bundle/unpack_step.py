"""Step: the files of a bundle in the cache, each checked against the bundle's list."""

from __future__ import annotations

import json
import os
import posixpath
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.release.bundle import archive
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.verbs.packages import registry

ORIGIN = "origin.json"
"""Says which file was unpacked. It is written last, so a folder with it is complete."""


@dataclass(frozen=True)
class UnpackBundle:
    """Unpack the bundle in `file` into `directory`, below the cache. `digest`: sha256 of its list. `signed_by`: the id of the key
    that signed the list, or "". The step writes only to the cache, so there is nothing to undo."""

    file: str
    directory: str
    digest: str
    signed_by: str = ""
    progress: Progress = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "unpack-bundle"

    @property
    def id(self) -> str:
        return "unpack-bundle"

    def describe(self) -> str:
        return f"unpack the bundle {self.file}"

    def inspect(self, host: Host) -> Inspection:
        return Satisfied() if host.exists(f"{self.directory}/{ORIGIN}") else Needed((f"+ {self.directory}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, ())

    def apply(self, host: Host) -> None:
        new = f"{self.directory}.new"
        host.remove_tree(new)
        ensure_private(host, new)
        try:
            for name, chunks in archive.files(self.file, self.digest):
                self.progress(f"unpacking {name.rpartition('/')[2]}", None)
                target = f"{new}/{name}"
                ensure_private(host, posixpath.dirname(target), 0o755)
                with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "wb") as output:
                    output.writelines(chunks)
        except OSError as error:
            raise StepFailed(
                "NQR-REL-065",
                f"The bundle {self.file} could not be unpacked: {error.strerror or error}.",
                f"Check the file and the free space of {self.directory}, then run the same command again.",
            ) from error
        collecting = registry.collecting(host)
        if collecting is not None:
            collecting.prepare(host, f"{new}/packages", f"{self.directory}/packages")
        origin = {"file": self.file, "signed_by": self.signed_by}
        host.write_file(f"{new}/{ORIGIN}", (json.dumps(origin) + "\n").encode())
        host.remove_tree(self.directory)
        host.rename(new, self.directory)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

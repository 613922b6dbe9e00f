"""Step: the installation's own Python, a copy of the one that the bootstrap brought to a host with an older Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import silent
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.release.interpreter import BROUGHT
from nqrust.installer.verbs.file.undo import undo_directory

COMPLETE = ".nqrust-complete"


@dataclass(frozen=True)
class OwnPython:
    """A Python in `directory` that every user can run. `source`: the folder to copy, which only root can read. `program`: its
    interpreter's name. The step writes the file COMPLETE last."""

    kind: ClassVar[str] = "own-python"

    source: str
    directory: str
    program: str
    progress: Callable[[str, float | None], None] = field(default=silent, compare=False, repr=False)

    @property
    def id(self) -> str:
        return f"own-python:{self.directory}"

    def describe(self) -> str:
        return f"copy the Python of this installation to {self.directory}"

    def inspect(self, host: Host) -> Inspection:
        whole = all(host.exists(f"{self.directory}/{name}") for name in (COMPLETE, f"bin/{self.program}"))
        return Satisfied() if whole else Needed((f"+ {self.directory}",))

    def prepare(self, host: Host) -> Prepared:
        if host.exists(self.directory):  # its creator has the record that removes it
            return Prepared(Origin.modified, ())
        return Prepared(Origin.created, (undo_directory(self.directory, tree=True),))

    def apply(self, host: Host) -> None:
        if self.source == self.directory or not host.exists(f"{self.source}/{BROUGHT}"):
            raise StepFailed(
                "NQR-DEP-108",
                f"The Python in {self.directory} is not complete, and {self.source} has none to copy.",
                "Run scripts/install/install.sh, which brings it again.",
            )
        host.remove_tree(self.directory)
        self.progress("copying", 0.0)
        host.run(command("cp", "-R", "--preserve=mode,links,timestamps", self.source, self.directory, timeout=300))
        self.progress("compiling", 0.3)
        library = f"{self.directory}/lib/{self.program}"
        # Services may not write here. Some files of the library are broken on purpose (exit code 1).
        compile_all = ("-I", "-m", "compileall", "-q", "-j", "0", library)
        host.run(command(f"{self.directory}/bin/{self.program}", *compile_all, timeout=600, ok=(0, 1)))
        host.write_file(f"{self.directory}/{COMPLETE}", b"", mode=0o644)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

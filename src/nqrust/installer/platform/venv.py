"""Step: a Python virtual environment, filled offline from wheels whose hashes are locked."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.host.errors import CommandFailed, PathMissing
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import silent
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied
from nqrust.installer.release import compiled, offline_pip
from nqrust.installer.verbs.file.former import set_beside, undo_former
from nqrust.installer.verbs.file.undo import undo_directory

MARKER = ".nqrust-environment.json"


@dataclass(frozen=True)
class PythonEnvironment:
    """A virtual environment at `directory`, created in place, because its console scripts contain the interpreter's path.

    `python`: the base interpreter. `python_version`: its version, part of the key. `runner`: the Python whose pip fills the
    environment (`pip --python`); the environment has no pip. `requirements`: files with pinned, hashed lines. `find_links`:
    folders with the wheels; pip uses no index. `version`: of its release. `scripts`: console scripts that must exist at the
    end. `compiled`: an archive with compiled modules, or "".

    The environment is complete when its marker, written last, has the requested key. Another mode of the same release extends
    the environment. Another Python or release replaces it. A rollback puts back the environment of another release.
    """

    name: str
    directory: str
    python: str
    python_version: str
    runner: str
    requirements: tuple[str, ...]
    find_links: tuple[str, ...]
    version: str
    scripts: tuple[str, ...] = ()
    compiled: str = ""
    progress: Callable[[str, float | None], None] = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "python-environment"

    @property
    def id(self) -> str:
        return f"python-environment:{self.name}"

    @property
    def marker(self) -> str:
        return f"{self.directory}/{MARKER}"

    @property
    def key(self) -> str:
        """Return a digest of the environment's inputs. The release version stands for the contents of its files."""
        parts = (self.version, self.python, self.python_version, *(posixpath.basename(r) for r in self.requirements))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def covered_by(self, marked: Mapping[str, object]) -> bool:
        """Return whether an environment with this marker has all requirements. It may have more: packages of disabled
        components stay until the next release, so that enabling them again needs no network."""
        has = marked.get("requirements")
        names = {posixpath.basename(r) for r in self.requirements}
        return marked.get("key") == self.key or (self._extends(marked) and isinstance(has, list) and names <= set(has))

    def describe(self) -> str:
        return f"make the Python environment of {self.name} in {self.directory}"

    def inspect(self, host: Host) -> Inspection:
        if not self.covered_by(self._marked(host)):
            return Needed((f"+ {self.directory}",))
        lost = [name for name in ("python", *self.scripts) if not host.exists(f"{self.directory}/bin/{name}")]
        return Needed(tuple(f"~ {self.directory}/bin/{name}" for name in lost)) if lost else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        if version := self._former(host):
            needs = str(self._marked(host).get("python", ""))
            return Prepared(Origin.modified, (undo_former(self.directory, version, marker=MARKER, needs=needs),))
        if host.exists(self.directory):  # its creator has the record that removes it; services need it to run
            return Prepared(Origin.modified, ())
        return Prepared(Origin.created, (undo_directory(self.directory, tree=True),))

    def apply(self, host: Host) -> None:
        marked = self._marked(host)
        extend = self._extends(marked)
        if version := self._former(host):
            set_beside(host, self.directory, version)
        host.remove(self.marker)
        if not extend:
            host.remove_tree(self.directory)
            self.progress("creating", 0.0)
            host.run(command(self.python, "-I", "-m", "venv", "--without-pip", self.directory, timeout=300))
        self._install(host)
        self._isolate(host)
        self.progress("compiling", 0.7)
        libraries = host.glob(f"{self.directory}/lib/python3*/site-packages")
        # Not for one that is there already: somebody may have edited a source, whose time says so.
        for library in libraries if self.compiled and not extend and host.exists(self.compiled) else ():
            compiled.take(host, self.compiled, library, self.python_version)
        # Compile now, because services may not write here, and on all processors, which pip cannot do.
        compiled.compile_all(host, self._interpreter, *libraries)
        data = {
            "key": self.key,
            "version": self.version,
            "python": self.python,
            "python_version": self.python_version,
            "requirements": self._held(marked if extend else {}),
        }
        host.write_file(self.marker, (json.dumps(data) + "\n").encode())

    def verify(self, host: Host) -> None:
        found = self.inspect(host)
        if isinstance(found, Satisfied):
            return
        raise StepFailed(
            "NQR-REL-011",
            f"The Python environment {self.directory} is not complete: {'; '.join(found.diff)}."
            if isinstance(found, Needed)
            else f"The Python environment {self.directory} is not complete.",
            "Run the same command again; it makes the environment again.",
        )

    @property
    def _interpreter(self) -> str:
        return f"{self.directory}/bin/python"

    def _marked(self, host: Host) -> dict[str, object]:
        try:
            found = json.loads(host.read_text(self.marker))
        except (PathMissing, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _former(self, host: Host) -> str:
        """Return the version of the other release that the environment there is complete for; empty if there is none."""
        version = str(self._marked(host).get("version", ""))
        return version if version != self.version else ""

    def _held(self, marked: Mapping[str, object]) -> list[str]:
        """Return the names of the requirement files that are now installed."""
        before = marked.get("requirements")
        names = {posixpath.basename(r) for r in self.requirements}
        return sorted(names | set(before if isinstance(before, list) else ()))

    def _extends(self, marked: Mapping[str, object]) -> bool:
        same = (self.version, self.python, self.python_version)
        return (marked.get("version"), marked.get("python"), marked.get("python_version")) == same

    def _isolate(self, host: Host) -> None:
        """Limit console scripts to modules of this environment, regardless of the caller's PYTHONPATH or PYTHONHOME. Adds
        `-I` of python(1), as the bootstrap does."""
        plain = f"#!{self._interpreter}\n".encode()
        for name in self.scripts:
            path = f"{self.directory}/bin/{name}"
            if host.exists(path) and (text := host.read_bytes(path)).startswith(plain):
                host.write_file(path, plain[:-1] + b" -I\n" + text[len(plain) :], mode=0o755)

    def _install(self, host: Host) -> None:
        def tell(line: str) -> None:
            if line.startswith("Installing collected packages"):
                self.progress(f"installing {line.count(',') + 1} packages", 0.3)

        try:
            offline_pip.install(
                host,
                self.runner,
                files=self.requirements,
                find_links=self.find_links,
                before=("--python", self._interpreter),
                options=("--progress-bar", "off"),
                on_line=tell,
            )
        except CommandFailed as error:
            lines = [line for line in f"{error.stdout}\n{error.stderr}".splitlines() if line.startswith("ERROR")]
            reason = lines[-1].removeprefix("ERROR:").strip().rstrip(".") if lines else str(error)
            raise StepFailed(
                "NQR-REL-010",
                f"The Python packages of {self.name} could not be installed: {reason}.",
                "Check the free space of the disk, then run the same command again; it fetches what is missing.",
            ) from error

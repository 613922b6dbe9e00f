"""Step: fetch the environments' third-party wheels, each checked against its locked hash."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import CommandFailed, CommandTimedOut, PathMissing
from nqrust.host.port import Host, command
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.release import pip_settings
from nqrust.installer.release.folders import ensure_private


class Filled(Protocol):
    """An environment that wheels fill. `covered_by`: whether it needs no wheels, from the content of its marker file."""

    @property
    def marker(self) -> str: ...

    def covered_by(self, marked: Mapping[str, object]) -> bool: ...


@dataclass(frozen=True)
class Wheelhouse:
    """Put every wheel of `requirements` (hash-locked files below `release_dir`) into `directory`.

    `version`: the release of the lock files. `environments`: the environments that need the wheels. Once all of them are
    complete, the step fetches nothing. The pool is shared: the step does not fetch an existing wheel with the right hash again.
    """

    version: str
    release_dir: str
    requirements: tuple[str, ...]
    runner: str
    environments: tuple[Filled, ...] = ()
    directory: str = f"{CACHE_DIR}/wheelhouse"
    progress: Progress = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "wheelhouse"

    @property
    def id(self) -> str:
        return "wheelhouse"

    def describe(self) -> str:
        names = ", ".join(name.rpartition("/")[2].removesuffix(".txt") for name in self.requirements)
        return f"fetch the Python packages of {names}"

    @property
    def _marker(self) -> str:
        return f"{self.directory}/.complete.json"

    @property
    def _key(self) -> str:
        return f"{self.version}:{','.join(self.requirements)}"

    def inspect(self, host: Host) -> Inspection:
        if self.environments and all(e.covered_by(_read(host, e.marker)) for e in self.environments):
            return Satisfied("every environment is complete")
        if self._key in _keys(host, self._marker):
            return Satisfied()
        return Needed((f"+ {self.directory}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, ())

    def apply(self, host: Host) -> None:
        ensure_private(host, self.directory)
        files = [part for name in self.requirements for part in ("-r", f"{self.release_dir}/{name}")]
        fetched = 0

        def tell(line: str) -> None:
            nonlocal fetched
            words = line.split()
            if words[:1] == ["Collecting"]:
                fetched += 1
                self.progress(f"package {fetched}: {words[1].partition('==')[0]}", None)

        try:
            host.run(
                command(
                    self.runner,
                    "-I",
                    "-m",
                    "pip",
                    "download",
                    "--disable-pip-version-check",
                    "--no-input",
                    "--progress-bar",
                    "off",
                    "--only-binary",
                    ":all:",
                    "--require-hashes",
                    "--dest",
                    self.directory,
                    *files,
                    timeout=1800,
                    env={**settings_of_host(host, self.runner), "PIP_ROOT_USER_ACTION": "ignore", **_cache(self.directory)},
                ),
                on_line=tell,
            )
        except (CommandFailed, CommandTimedOut) as error:
            raise download_failed(error) from error
        keys = sorted({*_keys(host, self._marker), self._key})
        host.write_file(self._marker, (json.dumps({"keys": keys}) + "\n").encode())

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)


def settings_of_host(host: Host, runner: str) -> dict[str, Secret]:
    """Return variables for a pip run that reaches this host's index. An index's address may hold a password."""
    listing = host.run(command(runner, "-I", "-m", "pip", "config", "list")).stdout
    return {name: Secret(value) for name, value in pip_settings.environment(listing, os.environ).items()}


def download_failed(error: CommandFailed | CommandTimedOut) -> StepFailed:
    """Turn pip's output into an error with a cure."""
    output = f"{error.stdout}\n{error.stderr}" if isinstance(error, CommandFailed) else ""
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in output or "hash mismatch" in output.lower():
        return StepFailed(
            "NQR-REL-008",
            "A downloaded Python package is not the one that was locked (its sha256 differs).",
            "Check the package index and proxy that pip uses on this host (pip config list); nothing was installed from it.",
        )
    if "No space left" in output:
        return StepFailed(
            "NQR-REL-009", "The disk is full.", f"Free some space on the file system of {CACHE_DIR}, then try again."
        )
    reason = next((line.strip() for line in reversed(output.splitlines()) if line.strip().startswith("ERROR")), str(error))
    return StepFailed(
        "NQR-REL-007",
        f"Python packages could not be downloaded: {reason.removeprefix('ERROR:').strip().rstrip('.')}.",
        "Check the network, the proxy (https_proxy) and pip's index settings of this host (pip config list), then try again.",
    )


def _cache(directory: str) -> dict[str, str]:
    # pip's own cache would otherwise be in root's home. The caller's choice wins: the Host passes PIP_* on.
    return {} if os.environ.get("PIP_CACHE_DIR") else {"PIP_CACHE_DIR": f"{posixpath.dirname(directory)}/pip"}


def _keys(host: Host, marker: str) -> list[str]:
    keys = _read(host, marker).get("keys")
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def _read(host: Host, path: str) -> dict[str, object]:
    try:
        found = json.loads(host.read_text(path))
    except (PathMissing, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

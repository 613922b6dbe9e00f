"""Bring changed sources into an installation for development, and restart the services that load them.

The installation holds a copy of the sources, in the environments of the release and of nqr. See docs/adr/0022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from nqrust.host.port import Host, Kind, command
from nqrust.installer.engine.errors import NqrError, UsageError
from nqrust.installer.operations import gate, serving
from nqrust.installer.phases.services import AGENT, MANAGER, UI
from nqrust.installer.release.installed import installed_release
from nqrust.installer.release.source_tree import imports
from nqrust.installer.release.source_tree.forms import OWN, form_of
from nqrust.installer.release.sources import kept_release
from nqrust.installer.settings.model import Mode

_INSIDE = f"src/{imports.PACKAGE}"
_SKIPPED = ("__pycache__",)
ENTRIES = {MANAGER: "nqrust.manager.__main__", AGENT: "nqrust.agent.__main__", UI: "nqrust.ui.__main__"}
"""Service -> its first module."""
_NOT_BROUGHT = ("manager/store/migrations/versions/", "installer/release/helper/")
"""Files that more than a restart brings into effect."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Reloaded:
    """`files`: changed files, relative to the package. `restarted`: services, in start order. `left`: services that run on."""

    files: tuple[str, ...]
    restarted: tuple[str, ...]
    left: tuple[str, ...]


def reload(source: str, tell: Tell) -> Reloaded:
    """Copy what changed in the source tree, and restart what loads it. `source`: the tree, or "" for that of the install.

    Raises UsageError NQR-USE-020, NQR-DEP-960 and NQR-DEP-961; NqrError NQR-DEP-962 and NQR-DEP-963 before any change; StepFailed for a
    service that does not come up.
    """
    with gate.alone("dev reload"):
        here = serving.on_this_host()
        host, settings = here.host, here.settings
        tree = _tree(host, source or settings.release.source_dir or "", settings.mode)
        release = installed_release(host, settings)
        if release is None or release.form != "bundled":
            raise _not_ours("this installation has programs of another project")
        _require_same_locks(host, tree, kept_release(settings))
        new = dict(_files(host, f"{tree}/{_INSIDE}", ""))
        copies = [
            found
            for venv in (f"{settings.layout.current_link}/venv", f"{settings.layout.installer_dir}/venv")
            for found in host.glob(f"{venv}/lib/python3*/site-packages/{imports.PACKAGE}")
        ]
        changed = {folder: _changed(new, dict(_files(host, folder, ""))) for folder in copies}
        files = tuple(sorted({name for names in changed.values() for name in names}))
        _require_reloadable(files)
        restarted = _loading(host, tree, new, tuple(sorted(changed[copies[0]]))) if copies else ()
        for folder, names in changed.items():
            _bring(host, f"{tree}/{_INSIDE}", folder, names, new)
        ours = [name for name in here.names if name in ENTRIES]
        again = tuple(name for name in ours if name in restarted)
        for name in again:
            here.supervisor.restart(host, name)
            tell(f"{name} restarted.")
        for check in serving.checks(here):
            if check.service in again:
                check.apply(host)
        return Reloaded(files, again, tuple(name for name in ours if name not in again))


def _tree(host: Host, tree: str, mode: Mode) -> str:
    if mode is not Mode.dev:
        raise UsageError(
            "NQR-DEP-960",
            f"This installation has mode {mode.value}, and a reload is for mode dev.",
            "Change it with `nqr install --mode dev --source DIR`.",
        )
    if not tree:
        raise UsageError("NQR-DEP-961", "The installation names no source tree.", "Name one: nqr dev reload --source DIR")
    if form_of(host, tree) != OWN:
        raise _not_ours(f"{tree} is not a source tree of nqr")
    return tree


def _not_ours(why: str) -> UsageError:
    return UsageError(
        "NQR-DEP-961", f"A reload has nothing to bring: {why}.", "Name a source tree of nqr, or run `nqr install --source DIR`."
    )


def _require_same_locks(host: Host, tree: str, kept: str) -> None:
    for path in host.glob(f"{kept}/requirements/*.txt"):
        name = path.rpartition("/")[2]
        lock = f"{tree}/requirements/{name}"
        if host.exists(lock) and host.sha256(lock) != host.sha256(path):
            raise _more_than_a_reload(f"requirements/{name}")


def _require_reloadable(files: tuple[str, ...]) -> None:
    for name in files:
        if name.startswith(_NOT_BROUGHT):
            raise _more_than_a_reload(f"{_INSIDE}/{name}")


def _more_than_a_reload(name: str) -> NqrError:
    return NqrError(
        "NQR-DEP-962", f"{name} changed, and a reload does not bring it into effect.", "Run `nqr install --source DIR`."
    )


def _files(host: Host, folder: str, inside: str) -> Iterator[tuple[str, str]]:
    """Yield relative path and digest of each file below a folder, without byte code."""
    for name in host.listdir(f"{folder}/{inside}".rstrip("/")):
        relative = f"{inside}/{name}" if inside else name
        found = host.stat(f"{folder}/{relative}")
        if name in _SKIPPED or name.startswith(".") or found is None:
            continue
        if found.kind is Kind.directory:
            yield from _files(host, folder, relative)
        elif found.kind is Kind.file and not name.endswith(".pyc"):
            yield relative, host.sha256(f"{folder}/{relative}")


def _changed(new: Mapping[str, str], old: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))


def _loading(host: Host, tree: str, new: Mapping[str, str], changed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the services whose programs load a changed file. Raises NqrError NQR-DEP-963 for a file that Python cannot read."""
    if not changed:
        return ()
    sources = {imports.name_of(name): host.read_text(f"{tree}/{_INSIDE}/{name}") for name in new if name.endswith(".py")}
    for name in changed:
        if name in new and name.endswith(".py"):
            try:
                compile(sources[imports.name_of(name)], name, "exec", dont_inherit=True)
            except (SyntaxError, ValueError) as error:
                line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
                raise NqrError(
                    "NQR-DEP-963",
                    f"Python cannot read {tree}/{_INSIDE}/{name}{line}: {getattr(error, 'msg', error)}.",
                    "Correct the file, then run the same command again. Nothing was changed.",
                ) from error
    gone = {imports.name_of(name): "" for name in changed if name not in new and name.endswith(".py")}
    return tuple(
        service
        for service, entry in ENTRIES.items()
        if imports.touches(changed, entry, imports.loaded_by(entry, {**gone, **sources}))
    )


def _bring(host: Host, source: str, folder: str, names: frozenset[str], new: Mapping[str, str]) -> None:
    for name in sorted(names):
        if name not in new:
            host.remove(f"{folder}/{name}")
            continue
        parts = name.split("/")[:-1]
        for n in range(1, len(parts) + 1):
            if not host.exists(f"{folder}/{'/'.join(parts[:n])}"):
                host.mkdir(f"{folder}/{'/'.join(parts[:n])}", mode=0o755)
        host.copy_file(f"{source}/{name}", f"{folder}/{name}", mode=0o644)
    if names:
        python = f"{folder.partition('/lib/python3')[0]}/bin/python"
        # Services may not write here.
        host.run(command(python, "-I", "-m", "compileall", "-q", folder, timeout=300, ok=(0, 1)))

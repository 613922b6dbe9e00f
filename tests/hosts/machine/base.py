"""Base trees: a pristine Debian, unpacked once by mmdebstrap(1) and shared read-only by every test host."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.machine import settings
from tests.hosts.machine.outside import PATH, cache_root, locked, outside

PACKAGES = ("systemd", "systemd-sysv", "dbus", "iproute2", "ca-certificates", "python3", "sudo")
"""What a bare Debian server has anyway. Deliberately without python3-venv: a bootstrap has to bring that itself."""
RECIPE = 1
"""Raise it when this file builds something else from the same packages."""
MAX_AGE = 30 * 86400.0
CHECKED = 3600.0
"""Seconds for which what the archive offered is taken as what it offers."""


@dataclass(frozen=True)
class Base:
    """An unpacked tree. `tree` is never written to; `lock` is held shared by every host that stands on it."""

    suite: str
    key: str
    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def lock(self) -> Path:
        return self.folder.with_suffix(".lock")


def base(suite: str = "bookworm", packages: tuple[str, ...] = PACKAGES) -> Base:
    """The newest base tree for a Debian suite, built when there is none, it is older than 30 days, or the archive has newer
    packages for it (about a minute). An install would bring those, and an uninstall leaves upgrades.

    Raises OutsideError when mmdebstrap fails.
    """
    key = hashlib.sha256(json.dumps([suite, sorted(packages), RECIPE]).encode()).hexdigest()[:12]
    folder = cache_root() / "base"
    with locked(folder / f"{suite}-{key}.building"):
        existing = sorted(folder.glob(f"{suite}-{key}-*/built.json"))
        if existing and time.time() - existing[-1].stat().st_mtime < MAX_AGE:
            found = Base(suite, key, existing[-1].parent)
            if not _outdated(found):
                return found
        made = Base(suite, key, folder / f"{suite}-{key}-{int(time.time())}")
        started = time.monotonic()
        _build(made, packages)
        (made.folder / "built.json").write_text(
            json.dumps({"packages": packages, "seconds": round(time.monotonic() - started, 1)})
        )
        for old in folder.glob(f"{suite}-{key}-*"):
            if old.is_dir() and old != made.folder:
                _remove_if_unused(old)
        return made


def _outdated(found: Base) -> bool:
    """Whether apt would upgrade packages of the tree. apt(8) reads the tree and writes beside it. A mirror that does not answer
    tells nothing."""
    state, mark = found.folder.parent / f"{found.suite}.apt", found.folder / "checked"
    if mark.exists() and time.time() - mark.stat().st_mtime < CHECKED:
        return False
    options = (
        *("-q", "-o", f"Dir={found.tree}", "-o", f"Dir::State={state}", "-o", f"Dir::Cache={state}/cache"),
        *("-o", f"Dir::State::status={found.tree}/var/lib/dpkg/status", "-o", "APT::Sandbox::User=root"),
    )
    environment = {"APT_CONFIG": str(found.folder / "apt.conf")}
    with locked(state.with_suffix(".lock")):
        asked = state / "asked"
        if not asked.exists() or time.time() - asked.stat().st_mtime >= CHECKED:
            for folder in (state / "lists/partial", state / "cache/archives/partial"):
                folder.mkdir(parents=True, exist_ok=True)
            done = outside("apt-get", *options, "update", check=False, timeout=300, env=environment)
            if done.returncode or b"W: " in done.stderr:
                return False
            asked.touch()
        done = outside("apt-get", *options, "--simulate", "dist-upgrade", check=False, timeout=120, env=environment)
    if done.returncode == 0 and any(line.startswith(b"Inst ") for line in done.stdout.splitlines()):
        return True
    mark.touch()
    return False


def _build(made: Base, packages: tuple[str, ...]) -> None:
    shutil.rmtree(made.folder, ignore_errors=True)
    made.folder.mkdir(parents=True)
    sources = settings.apt_sources(made.suite)
    apt = made.folder / "apt.conf"
    apt.write_text(settings.apt_configuration())
    options = [f"--aptopt={apt}"] if apt.stat().st_size else []
    outside(
        "mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase", f"--include={','.join(packages)}",
        *options, made.suite, str(made.tree), *(["-"] if sources else []),
        input=sources.encode() if sources else None, timeout=1200, env={"PATH": PATH},
    )  # fmt: skip
    _trust(made.tree)
    # One identity for all would make two hosts look like one; an empty file means "make one at first boot" (machine-id(5)).
    (made.tree / "etc/machine-id").write_text("")
    (made.tree / "mnt/test-host").mkdir()
    for leftover in ("etc/resolv.conf", "etc/hostname"):
        (made.tree / leftover).unlink(missing_ok=True)


def _trust(tree: Path) -> None:
    """Let the tree trust what the testing machine trusts, the way an administrator would, so that it survives updates."""
    for number, pem in enumerate(settings.extra_certificates(tree / "etc/ssl/certs/ca-certificates.crt")):
        (tree / f"usr/local/share/ca-certificates/machine-{number}.crt").write_text(pem)
    # TMPDIR names a folder of this machine.
    outside("chroot", str(tree), "/usr/bin/env", "-u", "TMPDIR", "update-ca-certificates", timeout=120)


def _remove_if_unused(folder: Path) -> None:
    lock = folder.with_suffix(".lock")
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        shutil.rmtree(folder, ignore_errors=True)
        os.unlink(lock)

"""The files of the packages of `nqr`, as a tree below the root folder.

    /usr/bin/nqr                                     chooses the Python, and starts nqr with this tree as its sources
    /usr/lib/nqr/tree                                the source tree that `nqr install` builds the platform from
    /usr/lib/nqr/{pyvenv.cfg,bin,lib}                one virtual environment for every supported Python

A wheel's native modules carry their Python's name, so the wheels of several Pythons fit into one folder. Pythons whose locks
name the same versions share one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from scripts.packages import tree, wheels
from scripts.packages.run import EPOCH, Failed

HOME = "usr/lib/nqr"
PYTHONS = wheels.PYTHONS
SCRIPTS = Path(__file__).parent


def fill(root: Path, kept: Path, payload: Path) -> None:
    """Fill the folder `payload` with the files. `kept`: the pool of wheels. Raises Failed."""
    home = payload / HOME
    for name, path in tree.files(root):
        _copy(path, home / "tree" / name, tree.mode(path))
    _copy(SCRIPTS / "nqr.sh", payload / "usr/bin/nqr", 0o755)
    _copy(root / "LICENSE", payload / "usr/share/doc/nqr/copyright", 0o644)
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (home / "bin").mkdir()
    groups: dict[frozenset[str], str] = {}
    for python in PYTHONS:
        (home / "bin" / f"python{python}").symlink_to(f"/usr/bin/python{python}")
        versions = frozenset(wheels.pins(root / "requirements", python))
        if versions in groups:
            (home / "lib" / f"python{python}").symlink_to(f"python{groups[versions]}")
        else:
            groups[versions] = python
        _add(root, kept, python, home / "lib" / f"python{groups[versions]}" / "site-packages")
    settle(payload)


def _add(root: Path, kept: Path, python: str, site: Path) -> None:
    """Unpack this Python's wheels into `site`, beside those of another."""
    new = site.with_name("new")
    wheels.unpack(root / "requirements", kept, python, new)
    shutil.rmtree(new / "bin", ignore_errors=True)  # programs for the Python of the build
    for path in sorted(new.rglob("*")):
        target = site / path.relative_to(new)
        if path.is_dir():
            continue
        # RECORD and WHEEL name one wheel; pip needs neither to run a package that it does not own.
        if target.exists() and target.read_bytes() != path.read_bytes() and ".dist-info/" not in str(target):
            raise Failed(f"Two Pythons need another content of {target.relative_to(site)}; give each its own folder.")
        if not target.exists():
            _copy(path, target, 0o755 if os.access(path, os.X_OK) and path.suffix != ".so" else 0o644)
    shutil.rmtree(new)
    (site / "nqrust.pth").write_text("../../../tree/src\n")


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def settle(folder: Path) -> None:
    """Give every folder the mode 0755, and everything the time EPOCH, so that two builds are alike."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)

"""`nqr-installer.pyz`: the source tree and the installer's wheels in one file that Python starts (PEP 441)."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

from scripts.packages import tree
from scripts.packages.payload import SCRIPTS
from scripts.packages.run import EPOCH


def write(root: Path, kept: Path, path: Path) -> Path:
    """Write the archive to `path` and return it. `kept`: the pool of wheels."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as archive:
            _add(archive, "__main__.py", SCRIPTS / "pyz_main.py", 0o644)
            for name, source in tree.files(root):
                _add(archive, f"tree/{name}", source, tree.mode(source))
            for wheel in sorted(kept.glob("*.whl")):
                _add(archive, f"wheels/{wheel.name}", wheel, 0o644)
    new.chmod(0o755)
    return new.rename(path)


def _add(archive: zipfile.ZipFile, name: str, source: Path, mode: int) -> None:
    entry = zipfile.ZipInfo(name, time.gmtime(EPOCH)[:6])
    entry.external_attr = (0o100000 | mode) << 16
    entry.create_system = 3  # Unix
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED
    archive.writestr(entry, source.read_bytes())

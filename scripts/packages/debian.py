"""The Debian package, written by dpkg-deb(1)."""

from __future__ import annotations

from pathlib import Path

from scripts.packages.payload import SCRIPTS, settle
from scripts.packages.run import run

CONTROL = """\
Package: nqr
Version: {version}
Architecture: amd64
Maintainer: NQRust-MicroVM <root@localhost>
Installed-Size: {size}
Depends: python3 (>= 3.10), libc6 (>= 2.28)
Section: admin
Priority: optional
Description: installer and command line of NQRust-MicroVM
 nqr installs the microVM platform on this host, proves it by a booted VM,
 and removes it again. `nqr plan` shows what an installation would change.
"""


def write(payload: Path, version: str, to: Path, work: Path) -> Path:
    """Pack the files of `payload` and return the package's path below `to`. `work`: a folder for the build. Raises Failed."""
    control = payload / "DEBIAN"
    size = sum(path.lstat().st_size for path in payload.rglob("*") if not path.is_dir() or path.is_symlink())
    control.mkdir()
    (control / "control").write_text(CONTROL.format(version=version, size=-(-size // 1024)))
    removal = (SCRIPTS / "before_removal.sh").read_text()
    (control / "prerm").write_text(f'#!/bin/sh\nset -e\nremoving=no\n[ "$1" != remove ] || removing=yes\n{removal}')
    (control / "prerm").chmod(0o755)
    (control / "control").chmod(0o644)
    settle(payload)
    package = to / f"nqr_{version}_amd64.deb"
    # One thread: a compressor cuts its blocks by the number of threads.
    run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z9", "--build", payload, package], {"DPKG_DEB_THREADS_MAX": "1"})
    for path in control.iterdir():
        path.unlink()
    control.rmdir()
    return package

"""A Python for old hosts, in the form that uv downloads: built once on Debian 11 from Debian's own source package.

No test may fetch the archives that uv knows, so this one stands in for them. It is newer than Debian 11's Python, relocatable,
and laid out as python-build-standalone's `install_only` archives are: everything below `python/`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.machine import settings
from tests.hosts.machine.machine import Machine
from tests.hosts.machine.outside import cache_root, locked

SUITE, SOURCE = "bookworm", "python3.11"
BUILD_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "iproute2", "ca-certificates", "python3", "gcc", "libc6-dev", "make", "xz-utils", "dpkg-dev",
    "libssl-dev", "zlib1g-dev", "libffi-dev", "libbz2-dev", "liblzma-dev", "libsqlite3-dev",
)  # fmt: skip
RECIPE = 1
"""Raise it when BUILD makes something else."""
BUILD = """
set -eu
mkdir /root/build && cd /root/build
apt-get -q update
apt-get -q --download-only --tar-only source $SOURCE
tar -xf "$SOURCE"_*.orig.tar.*
cd [Pp]ython-*/
./configure -q --prefix=/install --disable-test-modules --with-ensurepip=install >/dev/null
nice -n 15 make -s -j2 >/dev/null 2>/root/build/log || { tail -30 /root/build/log; exit 1; }
make -s install DESTDIR=/root/out >/dev/null 2>&1
mv /root/out/install /root/out/python
ln -sf python3 /root/out/python/bin/python
find /root/out -name __pycache__ -prune -exec rm -r {} +
rm -rf /root/out/python/lib/python3.*/config-*/libpython*.a /root/out/python/lib/libpython*.a
strip /root/out/python/bin/python3.?? || true
tar -C /root/out --owner=0 --group=0 -czf /root/python.tar.gz python
/root/out/python/bin/python3 -I -c 'import platform; print(platform.python_version())'
"""


@dataclass(frozen=True)
class Archive:
    """`python/` in a file. `sha256`: of the file."""

    path: Path
    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"cpython-{self.version}+20260101-x86_64-unknown-linux-gnu-install_only.tar.gz"

    def metadata(self, url: str) -> str:
        """What uv reads from UV_PYTHON_DOWNLOADS_JSON_URL, with the archive at `url`."""
        major, minor, patch = (int(part) for part in self.version.split("."))
        entry = {
            "name": "cpython", "arch": {"family": "x86_64", "variant": None}, "os": "linux", "libc": "gnu", "major": major, "minor": minor,
            "patch": patch, "prerelease": "", "url": url, "sha256": self.sha256, "variant": None, "build": "20260101",
        }  # fmt: skip
        return json.dumps({f"cpython-{self.version}-linux-x86_64-gnu": entry})


def archive() -> Archive:
    """Return the archive. The first call builds it, which takes minutes. Raises MachineError when the build fails."""
    folder = cache_root() / "python"
    with locked(folder / "building"):
        made = sorted(folder.glob(f"{SOURCE}-{RECIPE}-*.tar.gz"))
        if not made:
            made = [_build(folder)]
    path = made[-1]
    return Archive(path, path.name.split("-")[2].removesuffix(".tar.gz"), hashlib.sha256(path.read_bytes()).hexdigest())


def _build(folder: Path) -> Path:
    lines = settings.apt_sources(SUITE).splitlines(keepends=True)
    sources = "".join(line.replace("deb ", "deb-src ", 1) for line in lines if f" {SUITE} " in line)
    with Machine(suite="bullseye", packages=BUILD_PACKAGES) as host:
        host.write("/etc/apt/sources.list.d/newer.list", sources)
        version = host.run(BUILD, env={"SOURCE": SOURCE}, timeout=3000).stdout.split()[-1]
        path = folder / f"{SOURCE}-{RECIPE}-{version}.tar.gz"
        unfinished = path.with_suffix(".new")
        unfinished.write_bytes((host.root / "root/python.tar.gz").read_bytes())
        unfinished.rename(path)
    return path

"""The installer's cache as an earlier run of the same sources leaves it: its environment, the built release, and the wheels.

A rolled-back install leaves such a cache, and the next install takes it over. With it, an install compiles no guest agent and
needs no compiler, which is more than half of its time. Tests whose subject is the first install on a host do without.
"""

from __future__ import annotations

import os
from pathlib import Path

from nqrust.host.local import LocalHost
from nqrust.installer.release.digest import source_digest
from tests.hosts import product
from tests.hosts.machine import Machine
from tests.hosts.machine.outside import cache_root, locked
from tests.places import ROOT

_PACK = f"cd {Path(product.CACHE).parent} && tar --numeric-owner -cf - {Path(product.CACHE).name}"
_UNPACK = f"mkdir -p {Path(product.CACHE).parent} && tar --numeric-owner -xpf - -C {Path(product.CACHE).parent}"

KEPT = 3
"""Caches of a suite: several checkouts can run their tests on one machine."""


def keep(host: Machine) -> None:
    """After an install on a primed host: keep its cache for later hosts of its suite, in place of the one used longest ago."""
    kept = _kept(host)
    with locked(kept.parent / "lock"):
        if not host.primed or kept.exists():
            return
        draft = kept.with_suffix(f".{os.getpid()}")
        packed = "/root/cache.tar"
        host.run(f"{_PACK} >{packed}", timeout=300)
        draft.write_bytes(host.read_bytes(packed))
        host.run(["rm", packed])
        draft.rename(kept)
        newest_first = sorted(kept.parent.glob(f"{host.suite}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in newest_first[KEPT:]:
            old.unlink()


def fill(host: Machine, *, environment: bool = True) -> None:
    """Before an install, and after the fingerprint from before it: give the host such a cache, if one of these sources is there.
    `environment`: with what the bootstrap makes; it makes its own otherwise."""
    kept = _kept(host)
    with locked(kept.parent / "lock"):
        packed = kept.read_bytes() if kept.exists() else b""
        if packed:
            os.utime(kept)
    if packed:
        host.run(
            _UNPACK if environment else f"{_UNPACK} --exclude='*/bootstrap' --exclude='*/pycache'", input=packed, timeout=300
        )


def _kept(host: Machine) -> Path:
    folder = cache_root() / "installer"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{host.suite}-{source_digest(LocalHost(), str(ROOT))[:12]}.tar"

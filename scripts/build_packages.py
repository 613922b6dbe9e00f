#!/usr/bin/env python3
"""Builds what distributes the installer: `nqr-installer.pyz`, a Debian package of `nqr`, and an RPM where rpmbuild is there.

    .venv/bin/python scripts/build_packages.py [--to dist] [--only pyz,deb,rpm]

The same tree and the same locks give the same bytes. Needs the network for wheels that `--wheels` does not have yet.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scripts.packages import debian, pyz, rpm, wheels  # noqa: E402
from scripts.packages.payload import fill  # noqa: E402
from scripts.packages.run import Failed  # noqa: E402
from scripts.packages.tree import version  # noqa: E402

KINDS = ("pyz", "deb", "rpm")


def main(arguments: list[str]) -> int:
    """Build and print one path a line. Return the exit code."""
    parser = argparse.ArgumentParser(description="Build nqr-installer.pyz and the packages of nqr.")
    parser.add_argument("--to", type=Path, default=ROOT / "dist", help="folder for the results (default: dist)")
    parser.add_argument("--wheels", type=Path, help="folder that keeps the wheels (default: a temporary one)")
    parser.add_argument(
        "--only", default="", help=f"comma-separated: {','.join(KINDS)} (default: all that this machine can build)"
    )
    given = parser.parse_args(arguments)
    kinds = tuple(given.only.split(",")) if given.only else tuple(kind for kind in KINDS if kind != "rpm" or rpm.available())
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"--only cannot be {unknown[0]!r}; it takes {', '.join(KINDS)}")
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nqr-packages-") as work:
        try:
            for path in build(kinds, given.to, given.wheels or Path(work) / "wheels", Path(work)):
                print(path)
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
    if not given.only and "rpm" not in kinds:
        print("No RPM: this machine has no rpmbuild (Debian: apt-get install rpm).", file=sys.stderr)
    return 0


def build(kinds: tuple[str, ...], to: Path, kept: Path, work: Path) -> list[Path]:
    """Build each of `kinds` into `to`. `kept`: the pool of wheels. `work`: an empty folder. Raises Failed."""
    name, made = version(ROOT), []
    wheels.download(ROOT / "requirements", kept)
    if "pyz" in kinds:
        made.append(pyz.write(ROOT, kept, to / "nqr-installer.pyz"))
    if {"deb", "rpm"} & set(kinds):
        payload = work / "payload"
        fill(ROOT, kept, payload)
        if "deb" in kinds:
            made.append(debian.write(payload, name, to, work))
        if "rpm" in kinds:
            made.append(rpm.write(payload, name, to, work))
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

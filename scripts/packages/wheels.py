"""The locked wheels of the installer, for each Python that it supports.

pip evaluates a lock's markers for the Python that runs pip, also under `--python-version`. So the markers are evaluated here,
and pip gets a list without them.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from packaging.markers import Marker
from scripts.packages.run import run

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
LOCKS = ("installer.txt", "build.txt")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_ENTRY = re.compile(
    r"^(?P<pin>[a-z0-9][a-z0-9._-]*(?:\[[^]]*\])?==\S+)(?: ; (?P<marker>.*?))? \\\n(?P<hashes>(?:    --hash=.*\n?)+)", re.M
)


def locked(text: str, python: str) -> dict[str, str]:
    """Return `name==version` -> its lines of a lock without its marker, for the entries that this Python needs on Linux."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    return {
        found["pin"]: f"{found['pin']} \\\n{found['hashes']}"
        for found in _ENTRY.finditer(text)
        if not found["marker"] or Marker(found["marker"]).evaluate(environment)
    }


def pins(requirements: Path, python: str) -> dict[str, str]:
    """Return the entries of all LOCKS below `requirements` for this Python. Raises OSError."""
    return {pin: lines for lock in LOCKS for pin, lines in locked((requirements / lock).read_text(), python).items()}


def download(requirements: Path, kept: Path) -> None:
    """Bring every wheel of every Python into the folder `kept`, and remove others from it. Raises Failed."""
    kept.mkdir(parents=True, exist_ok=True)
    wanted: set[str] = set()
    for python in PYTHONS:
        entries = pins(requirements, python)
        wanted |= {_plain(pin) for pin in entries}
        _pip("download", entries, python, "--dest", kept, "--find-links", kept)
    for wheel in kept.glob("*.whl"):
        if _plain("==".join(wheel.name.split("-")[:2])) not in wanted:
            wheel.unlink()


def unpack(requirements: Path, kept: Path, python: str, to: Path) -> None:
    """Unpack this Python's wheels from `kept` into the folder `to`, without byte code. Raises Failed."""
    _pip("install", pins(requirements, python), python, "--no-index", "--find-links", kept, "--target", to, "--no-compile")


def _pip(verb: str, entries: dict[str, str], python: str, *options: str | Path) -> None:
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("".join(lines for _, lines in sorted(entries.items())))
        listed.flush()
        run(
            [sys.executable, "-I", "-m", "pip", "-q", verb, "--disable-pip-version-check", "--no-input", "--no-deps",
             "--only-binary", ":all:", "--require-hashes", "--implementation", "cp", "--python-version", python, *platforms,
             *options, "-r", listed.name],
            {"PIP_ROOT_USER_ACTION": "ignore"},
        )  # fmt: skip


def _plain(pin: str) -> str:
    name, _, number = pin.partition("==")
    return re.sub(r"[-_.]+", "-", re.sub(r"\[.*", "", name)).lower() + f"=={number}"

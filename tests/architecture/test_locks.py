"""Each part runs with the packages of its own lock: its modules import nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from tests.places import ROOT

PARTS = {
    "agent": ("nqrust.agent",),
    "manager": ("nqrust.manager", "nqrust.image.oci"),
    "ui": ("nqrust.ui",),
    "installer": ("nqrust.cli", "nqrust.guide", "nqrust.installer", "nqrust.image"),
}
SCRIPT = """
import importlib, json, pkgutil, sys

packages, missing = json.loads(sys.argv[1]), set(json.loads(sys.argv[2]))


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
for package in packages:
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not found.name.endswith((".__main__", ".migrations.env")):  # these two run when they are imported
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                print(f"{found.name}: {error}")
"""


def absent(part: str) -> set[str]:
    """Return the top-level modules that this environment has and the lock of the part does not bring."""
    lock = (ROOT / f"requirements/{part}.txt").read_text()
    locked = {_plain(name) for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", lock, re.MULTILINE)}
    return {
        module
        for module, owners in packages_distributions().items()
        if not locked & {_plain(owner) for owner in owners} and "nqrust-microvm" not in map(_plain, owners)
    } - set(sys.stdlib_module_names)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_what_its_lock_has(part: str) -> None:
    missing = absent(part)
    assert "pytest" in missing and "pydantic" not in missing
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(PARTS[part]), json.dumps(sorted(missing))],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == ""

"""What the bootstrap brought, read back with suspicion: it decides what uninstall removes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.installer.release import bootstrap_record
from nqrust.installer.release.bootstrap_record import BootstrapRecord, farewell, read


def test_it_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text('{"schema": 1, "manager": "apt", "packages": ["python3","libpython3-stdlib"], "cache": "/elsewhere"}')
    record = read(LocalHost(), str(path))
    assert record == BootstrapRecord("apt", ("python3", "libpython3-stdlib"))
    assert record.cache == bootstrap_record.CACHE_DIR, "a record cannot point uninstall at another folder"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"schema": 2, "packages": ["x"]}', '{"schema": 1, "manager": "rm", "packages": "python3"}',
     json.dumps({"schema": 1, "manager": "apt", "packages": ["-o x", "a b", "$(id)", 7]})],
)
def test_what_is_not_well_formed_removes_no_package(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text(text)
    record = read(LocalHost(), str(path))
    assert record is not None and record.packages == ()


def test_the_farewell_removes_the_cache_and_what_it_brought(tmp_path: Path) -> None:
    cache = tmp_path / "a cache"
    cache.mkdir()
    script = farewell(BootstrapRecord("", (), str(cache)))
    subprocess.run(["sh", "-euc", script], check=True)
    assert not cache.exists()
    assert "purge -- python3" in farewell(BootstrapRecord("apt", ("python3",)))
    assert "purge" not in farewell(BootstrapRecord("apt", ("python3",)), keep_packages=True)

"""Uninstall removes packages by the bootstrap's record, so the reader trusts only a well-formed record."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.installer.release import bootstrap_record
from nqrust.installer.release.bootstrap_record import BootstrapRecord, farewell, read

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root's folders")


@pytest.fixture(autouse=True)
def no_caches_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap_record, "ELSEWHERE", f"{tmp_path}/none")


def test_bootstrap_record_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text('{"schema": 1, "manager": "apt", "packages": ["python3","libpython3-stdlib"], "cache": "/elsewhere"}')
    record = read(LocalHost(), str(path))
    assert record == BootstrapRecord("apt", ("python3", "libpython3-stdlib"))
    assert record.cache == bootstrap_record.CACHE_DIR, "a record cannot point uninstall at another folder"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": 2, "packages": ["x"]}',
        '{"schema": 1, "manager": "rm", "packages": "python3"}',
        json.dumps({"schema": 1, "manager": "apt", "packages": ["-o x", "a b", "$(id)", 7]}),
    ],
)
def test_malformed_bootstrap_record_removes_no_package(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text(text)
    record = read(LocalHost(), str(path))
    assert record is not None and record.packages == ()


def test_farewell_script_removes_the_cache_and_the_bootstrap_packages(tmp_path: Path) -> None:
    cache = tmp_path / "a cache"
    cache.mkdir()
    script = farewell(BootstrapRecord("", (), str(cache)))
    subprocess.run(["sh", "-euc", script], check=True)
    assert not cache.exists()
    assert "purge -- python3" in farewell(BootstrapRecord("apt", ("python3",)))
    assert "purge" not in farewell(BootstrapRecord("apt", ("python3",)), keep_packages=True)


@needs_root
def test_farewell_script_removes_caches_at_other_paths(roots_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NQR_CACHE_DIR moved them; an uninstall knows nothing of that variable."""
    home, made, used, foreign = (roots_folder / name for name in ("home", "a made one", "used", "foreign"))
    for folder in (home, made, used, foreign):
        folder.mkdir()
        (folder / "file").write_text("")
    for folder, name in ((home, "zlib"), (made, "python3"), (used, "zlib")):
        (folder / "bootstrap.json").write_text(f'{{"schema": 1, "manager": "apt", "packages": ["{name}"]}}')
    (used / ".hidden").write_text("")
    lines = (f"made {made}", f"used {used}", f"made {foreign}", "made relative", "made /", f"made {roots_folder}/gone", "junk")
    (home / "elsewhere").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(bootstrap_record, "CACHE_DIR", str(home))
    monkeypatch.setattr(bootstrap_record, "ELSEWHERE", f"{home}/elsewhere")
    record = read(LocalHost(), f"{home}/bootstrap.json")
    assert record is not None and record.elsewhere == ((str(made), True), (str(used), False))
    assert (record.manager, record.packages) == ("apt", ("zlib", "python3"))
    script = farewell(BootstrapRecord("", (), str(home), record.elsewhere))
    subprocess.run(["sh", "-euc", script], check=True)
    assert not home.exists() and not made.exists() and list(used.iterdir()) == [] and (foreign / "file").exists()


@needs_root
@pytest.mark.parametrize("how", ["made", "used"])
@pytest.mark.parametrize("there", ["link", "folder", "folder of root", "below", "of a group"])
def test_farewell_script_leaves_what_another_user_could_have_put_in_the_place_of_a_cache(
    roots_folder: Path, monkeypatch: pytest.MonkeyPatch, how: str, there: str
) -> None:
    """A reboot emptied /tmp, and a user made the folder before root did."""
    home, everybodys, precious = (roots_folder / name for name in ("home", "tmp", "precious"))
    for folder in (home, everybodys, precious):
        folder.mkdir()
        (folder / "bootstrap.json").write_text('{"schema": 1, "manager": "apt", "packages": ["sudo"]}')
    everybodys.chmod(0o1777)
    cache = everybodys / "nqr"
    if there == "link":
        cache.symlink_to(precious)
    elif there == "below":
        everybodys.chmod(0o755)
        os.chown(everybodys, 65534, 65534)
        cache.mkdir()
    elif there == "of a group":
        everybodys.chmod(0o755)
        cache.mkdir()
        cache.chmod(0o775)
    else:
        cache.mkdir()
        if there == "folder":
            os.chown(cache, 65534, 65534)
    if there != "link":
        (cache / "bootstrap.json").write_text((precious / "bootstrap.json").read_text())
    (home / "elsewhere").write_text(f"{how} {cache}\n")
    monkeypatch.setattr(bootstrap_record, "CACHE_DIR", str(home))
    monkeypatch.setattr(bootstrap_record, "ELSEWHERE", f"{home}/elsewhere")
    record = read(LocalHost(), f"{home}/none.json")
    assert record == BootstrapRecord(), "and no package goes"
    assert bootstrap_record.left_alone(LocalHost()) == (
        f"{cache} stays, with the packages that its record names, because another user than root could have replaced it.",
    )
    subprocess.run(["sh", "-euc", farewell(BootstrapRecord("", (), str(home), record.elsewhere))], check=True)
    assert (precious / "bootstrap.json").exists() and (cache / "bootstrap.json").exists() and not home.exists()


@pytest.mark.parametrize(
    ("simulated", "said", "purged"),
    [
        ("Purg python3 [3.11]\nPurg libfoo:i386 [1]", "", True),
        ("Purg python3 [3.11]\nPurg ansible [7]", "Left installed: python3 libfoo:i386\n", False),
        ("Remv certbot [1]", "Left installed: python3 libfoo:i386\n", False),
        (None, "Left installed: python3 libfoo:i386\n", False),
    ],
)
def test_farewell_script_keeps_debs_that_others_need(tmp_path: Path, simulated: str | None, said: str, purged: bool) -> None:
    simulation = "exit 100" if simulated is None else f"echo '{simulated}'"
    program = tmp_path / "apt-get"
    program.write_text(f"#!/bin/sh\ncase $* in *' -s '*) {simulation} ;; *) echo $* >>{tmp_path}/calls ;; esac\n")
    program.chmod(0o755)
    script = farewell(BootstrapRecord("apt", ("python3", "libfoo:i386"), str(tmp_path / "cache")))
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-euc", script], check=True, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.stderr == said
    assert (tmp_path / "calls").exists() is purged
    if purged:
        assert (tmp_path / "calls").read_text().endswith("purge -- python3 libfoo:i386\n")


@pytest.mark.parametrize(
    ("needed", "said", "removed"), [(0, "", ["python3.11", "libs"]), (2, "Left installed: python3.11 gone libs\n", [])]
)
def test_farewell_script_keeps_rpms_that_others_need(tmp_path: Path, needed: int, said: str, removed: list[str]) -> None:
    rpm = f'case "$*" in "-q gone") exit 1 ;; "-e --test --allmatches python3.11 libs") exit {needed} ;; -e*) exit 9 ;; esac'
    for name, body in (("rpm", rpm), ("dnf", f'echo "$@" >>{tmp_path}/calls')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    script = farewell(BootstrapRecord("dnf", ("python3.11", "gone", "libs"), str(tmp_path / "cache")))
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-uc", script], check=True, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.stderr == said
    calls = tmp_path / "calls"
    assert (calls.read_text().split("remove ")[1].split() if calls.exists() else []) == removed

"""The bootstrap scripts, as far as they can be seen without changing this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INSTALL = ROOT / "scripts/install/install.sh"
UNINSTALL = ROOT / "scripts/install/uninstall.sh"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="checks what root sees")


def run(script: Path, *arguments: str, user: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments],
        capture_output=True,
        text=True,
        user=user,
        cwd="/",
        timeout=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
    )


@pytest.fixture
def clone() -> Iterator[Path]:
    """A copy at a path with a space, that everybody may read (pytest's own folders are for root alone)."""
    with tempfile.TemporaryDirectory(prefix="nqr-clone-") as folder:
        Path(folder).chmod(0o755)
        copy = Path(folder) / "my clone"
        _copy(copy)
        yield copy


def _copy(copy: Path) -> None:
    shutil.copytree(ROOT / "scripts/install", copy / "scripts/install")
    shutil.copytree(ROOT / "requirements", copy / "requirements")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))


@needs_root
@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh"])
def test_only_root_may(clone: Path, script: str, tmp_path: Path) -> None:
    done = run(clone / "scripts/install" / script, "--mode", "production", user=65534, NQR_CACHE_DIR=f"{tmp_path}/c")
    assert done.returncode == 2
    assert "NQR-USE-001" in done.stderr and "sudo" in done.stderr and done.stdout == ""
    assert not (tmp_path / "c").exists()


@needs_root
@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh"])
def test_help_needs_no_root(clone: Path, script: str) -> None:
    done = run(clone / "scripts/install" / script, "--help", user=65534)
    assert done.returncode == 0 and "Usage:" in done.stdout


@needs_root
@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["--mod", "production"], "NQR-USE-002", "--mode"),
        (["--mode", "prod"], "NQR-USE-003", "production"),
        (["--mode=prod"], "NQR-USE-003", "production"),
        (["--mode"], "NQR-USE-002", "Give one"),
    ],
)
def test_a_mistyped_option_touches_nothing(clone: Path, tmp_path: Path, arguments: list[str], code: str, hint: str) -> None:
    done = run(clone / "scripts/install/install.sh", *arguments, NQR_CACHE_DIR=f"{tmp_path}/cache")
    assert done.returncode == 2
    assert code in done.stderr and hint in done.stderr and done.stdout == ""
    assert not (tmp_path / "cache").exists()
    assert not list(clone.rglob("__pycache__"))


@needs_root
def test_every_option_of_the_table_passes_the_check(clone: Path) -> None:
    from nqrust.installer.settings_options import OPTIONS, RUN_FLAGS

    for option in (*OPTIONS, *RUN_FLAGS):
        value = [] if option.form.value == "boolean" else [option.choices[0] if option.choices else "x"]
        for flag in filter(None, (option.flag, option.off)):
            done = subprocess.run(
                ["/usr/bin/python3", "-I", "-B", clone / "scripts/install/precheck.py", clone / "src", "install", flag, *value],
                capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, (flag, done.stderr)


@needs_root
def test_an_incomplete_copy_says_so(clone: Path) -> None:
    shutil.rmtree(clone / "requirements")
    done = run(clone / "scripts/install/install.sh")
    assert done.returncode == 2 and "NQR-DEP-904" in done.stderr


@needs_root
def test_a_ready_environment_is_used_at_once_with_every_argument_as_given(clone: Path, tmp_path: Path) -> None:
    cli = clone / "src/nqrust/installer/cli"
    shutil.rmtree(cli)
    cli.mkdir()
    (cli / "__init__.py").write_text("")
    (cli / "__main__.py").write_text(
        "import json, os, sys\n"
        "def main():\n"
        "    print(json.dumps([sys.argv, os.environ['NQR_SOURCE_CHECKOUT'], os.environ['NQR_BOOTSTRAP_RECORD'], os.getcwd()]))\n"
        "    return 7\n"
    )
    cache = tmp_path / "cache"
    # What the script itself would compute as the environment's name, from the script's own function.
    text = INSTALL.read_text()
    assert "sha256sum | cut -c1-16" in text
    version = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    import hashlib

    locks = b"".join((clone / "requirements" / name).read_bytes() for name in ("installer.txt", "build.txt"))
    key = hashlib.sha256(f"/usr/bin/python3 {version}\n".encode() + locks).hexdigest()[:16]
    venv = cache / "bootstrap" / key
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", venv], check=True)
    (venv / ".complete").write_text("")
    link = tmp_path / "link.sh"
    link.symlink_to(clone / "scripts/install/install.sh")
    import json

    for script, verb in ((clone / "scripts/install/install.sh", "install"), (link, "install")):
        done = run(script, "--config", "a b.yaml", "", "--x=*", NQR_CACHE_DIR=str(cache), PYTHONPATH="/nonsense")
        assert done.returncode == 7, done.stderr
        argv, checkout, record, cwd = json.loads(done.stdout)
        assert argv == ["nqr", verb, "--config", "a b.yaml", "", "--x=*"]
        assert checkout == str(clone) and record == f"{cache}/bootstrap.json" and cwd == "/"
    assert not list(clone.rglob("__pycache__")), "byte code goes to the cache, not into the clone"


def test_the_scripts_are_sound() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    helper = ROOT / "src/nqrust/installer/release/helper/nqrust-helper"
    done = subprocess.run(["shellcheck", INSTALL, UNINSTALL, ROOT / "scripts/lock.sh", helper], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_locks_hold_hashes_and_no_address() -> None:
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        assert "://" not in text and " @ " not in text, path.name
        names = [line for line in text.splitlines() if line and line[0].isalnum()]
        assert names and all("==" in line and line.endswith("\\") for line in names), path.name


def test_parts_that_share_an_environment_agree() -> None:
    pins: dict[str, set[str]] = {}
    for part in ("installer", "manager", "agent", "ui", "supervisord", "test"):
        for line in (ROOT / f"requirements/{part}.txt").read_text().splitlines():
            if line and line[0].isalnum():
                pinned = line.removesuffix("\\").strip()
                pins.setdefault(pinned.partition("==")[0], set()).add(pinned.partition(";")[0].strip())
    test = (ROOT / "requirements/test.txt").read_text()
    for name, versions in pins.items():
        assert all(version in test for version in versions), name


DNF = """case $* in
*--assumeno*) printf '%s\\n' 'Last metadata expiration check: 0:01:00 ago.' 'Dependencies resolved.' '====' ' Package  Arch  Version  Repository  Size' '====' \\
    'Installing:' ' python3.11  x86_64  3.11.9-7.el9  appstream  25 k' '     replacing  python3.9.x86_64 3.9-1' 'Upgrading:' ' openssl-libs  x86_64  1:3.2-2  baseos  2 M' \\
    'Installing dependencies:' ' python3.11-setuptools-wheel' '                 noarch  65.5-3  appstream  700 k' ' mpdecimal  x86_64  2.5-3  appstream  86 k' \\
    '' 'Transaction Summary' '====' 'Install  3 Packages' 'Upgrade  1 Package' '' 'Total download size: 10 M' 'Operation aborted.'; exit 1 ;;
*) cat "$NQR_CACHE_DIR/brought" >"$NQR_CACHE_DIR/known" ;;
esac"""


@needs_root
def test_on_a_host_with_dnf_what_is_new_is_written_down_before_it_is_there(clone: Path, tmp_path: Path) -> None:
    """A host without Python, with dnf: in mounts of its own, where nothing of this machine's is to be seen."""
    programs, cache, hidden = tmp_path / "bin", tmp_path / "cache", Path("/usr/bin")
    programs.mkdir()
    for file in hidden.iterdir():
        if not file.name.startswith(("python", "apt", "rpm", "dnf", "dpkg")):
            (programs / file.name).symlink_to(file)
    (programs / "dnf").write_text(f"#!/bin/sh\n{DNF}\n")
    (programs / "dnf").chmod(0o755)
    pythons = {str(path.resolve()) for folder in (hidden, Path("/usr/local/bin")) for path in folder.glob("python3*")}
    hide = "".join(f"mount --bind /dev/null {path} && " for path in sorted(pythons))
    script = clone / "scripts/install/install.sh"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{hide} PATH={programs} exec "$0" --dry-run', script], capture_output=True, text=True, cwd="/", timeout=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NQR_CACHE_DIR": str(cache)},
    )  # fmt: skip
    assert done.returncode == 3 and "NQR-DEP-901" in done.stderr, done.stderr
    names = ["mpdecimal", "python3.11", "python3.11-setuptools-wheel"]
    assert (cache / "known").read_text().split() == names, "before the transaction"
    record = json.loads((cache / "bootstrap.json").read_text())
    assert (record["manager"], record["packages"]) == ("dnf", names)

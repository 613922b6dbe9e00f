"""`nqr-installer.pyz` and the packages of `nqr`: built from this tree, looked into, and started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from scripts.packages import rpm
from tests.places import ROOT

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and file owners need root"),
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb"),
    pytest.mark.timeout(1500),
]


def build(to: Path, wheels: Path, only: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/build_packages.py", "--to", to, "--wheels", wheels, "--only", only],
        capture_output=True,
        text=True,
        check=False,
    )
    if any(sign in done.stderr for sign in ("NewConnectionError", "No matching distribution")):
        pytest.skip(f"no index of Python packages can be reached: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, pool: Path) -> Path:
    to = tmp_path_factory.mktemp("packages")
    build(to, pool, "pyz,deb")
    return to


def package(folder: Path) -> Path:
    (found,) = folder.glob("nqr_*_amd64.deb")
    return found


def run(*arguments: str | Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_two_builds_are_equal(built: Path, pool: Path, tmp_path: Path) -> None:
    build(tmp_path, pool, "pyz,deb")
    for path in sorted(built.iterdir()):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_pyz_holds_the_tree_and_wheels_for_each_python(built: Path) -> None:
    with zipfile.ZipFile(built / "nqr-installer.pyz") as archive:
        names = set(archive.namelist())
    parts = (
        "pyproject.toml",
        "src/nqrust/cli/__main__.py",
        "guest-agent/src/main.rs",
        "requirements/ui.txt",
        "scripts/install/install.sh",
    )
    assert {f"tree/{name}" for name in parts} <= names
    for python in ("310", "311", "312", "313", "314"):
        assert any(name.startswith("wheels/pydantic_core-") and f"-cp{python}-" in name for name in names)
    assert not any("__pycache__" in name or name.startswith("tree/tests") for name in names)


def test_pyz_makes_its_environment_without_a_network(built: Path, tmp_path: Path) -> None:
    """verify-clean comes as far as its own refusal: it ran, in an environment from the archive's wheels alone."""
    (tmp_path / "t").mkdir()
    done = run("unshare", "-n", built / "nqr-installer.pyz", "verify-clean", code=2, TMPDIR=str(tmp_path / "t"))
    assert "Preparing the installer's environment" in done.stderr
    assert "NQR-USE-011" in done.stdout + done.stderr
    assert list((tmp_path / "t").iterdir()) == [], "the temporary folder is gone"


def test_pyz_passes_options_to_install_sh_and_its_exit_code_back(built: Path) -> None:
    done = run(built / "nqr-installer.pyz", "--mod", "production", code=2)
    assert "NQR-USE-002" in done.stderr and "--mode" in done.stderr
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are for root alone
        Path(folder).chmod(0o755)
        copy = shutil.copy(built / "nqr-installer.pyz", folder)
        done = run("setpriv", "--reuid", "65534", "--clear-groups", copy, "install", "--mode", "dev", code=2)
    assert "NQR-USE-001" in done.stderr


def test_package_runs_from_its_own_files(built: Path, tmp_path: Path) -> None:
    """In a mount namespace where /usr/lib/nqr and the package's `nqr` are those of the package, as nobody, without a network."""
    run("dpkg-deb", "-x", package(built), tmp_path)
    (tmp_path / "usr/lib/nqr").rename(tmp_path / "nqr")
    script = (
        "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w"
        " && mount -t overlay none -o lowerdir=/usr/lib,upperdir=/mnt/u,workdir=/mnt/w /usr/lib"
        ' && cp -a "$1/nqr" /usr/lib/nqr && cp "$1/usr/bin/nqr" /mnt/nqr && chmod 755 /mnt'
        " && exec setpriv --reuid 65534 --regid 65534 --clear-groups /mnt/nqr version"
    )
    done = run("unshare", "-mn", "sh", "-c", script, "sh", tmp_path)
    assert done.stdout.startswith("nqr ")


def test_package_says_what_it_needs_and_belongs_to_root(built: Path) -> None:
    control = run("dpkg-deb", "-f", package(built)).stdout
    assert "Package: nqr\n" in control and "Depends: python3 (>= 3.10), libc6 (>= 2.28)" in control
    assert f"Version: {package(built).name.split('_')[1]}\n" in control
    listed = run("dpkg-deb", "-c", package(built)).stdout.splitlines()
    assert all(" root/root " in line for line in listed)
    names = {line.split()[5] for line in listed}
    assert {"./usr/bin/nqr", "./usr/lib/nqr/tree/pyproject.toml", "./usr/share/doc/nqr/copyright"} <= names
    assert not any("__pycache__" in name for name in names)


@pytest.mark.parametrize(
    ("action", "installed", "keep", "code"),
    [
        ("remove", "mkdir /opt/nqrust-microvm", "", 1),
        ("remove", "mkdir -p /opt/x/installer/venv/bin && ln -s /opt/x/installer/venv/bin/nqr /usr/local/bin/nqr", "", 1),
        ("remove", "mkdir /opt/nqrust-microvm", "1", 0),
        ("remove", "true", "", 0),
        ("upgrade", "mkdir /opt/nqrust-microvm", "", 0),
    ],
)
def test_package_stays_while_an_installation_is_there(
    built: Path, tmp_path: Path, action: str, installed: str, keep: str, code: int
) -> None:
    run("dpkg-deb", "-e", package(built), tmp_path / "c")
    lib = "mount -t overlay none -o lowerdir=/usr/lib,upperdir=/opt/u,workdir=/opt/w /usr/lib"
    script = f"""
mount -t tmpfs none /opt && mkdir /opt/u /opt/w && {lib} && mkdir -p /usr/lib/nqr/lib/pip/__pycache__
mount -t tmpfs none /usr/local/bin && {installed}
"$1" "$2"
code=$?
[ ! -e /usr/lib/nqr/lib/pip/__pycache__ ] && echo "no byte code"
exit $code"""
    done = run("unshare", "-m", "sh", "-c", script, "sh", tmp_path / "c/prerm", action, code=code, NQR_KEEP_INSTALLATION=keep)
    assert ("NQR-DEP-908" in done.stderr and "nqr uninstall" in done.stderr) is (code == 1)
    assert ("no byte code" in done.stdout) is (code == 0)


@pytest.mark.skipif(not rpm.available(), reason="needs rpmbuild (Debian: apt-get install rpm)")
def test_rpm_has_the_same_files_and_refuses_its_removal(built: Path, pool: Path, tmp_path: Path) -> None:
    build(tmp_path, pool, "rpm")
    (found,) = tmp_path.glob("nqr-*-1.x86_64.rpm")
    query = subprocess.run(["rpm", "-qp", "--scripts", "-l", "--requires", found], capture_output=True, text=True, check=True)
    assert "NQR-DEP-908" in query.stdout and '[ "$1" != 0 ] || removing=yes' in query.stdout
    listed = {
        line.split(maxsplit=5)[5].partition(" -> ")[0].rstrip("/")
        for line in run("dpkg-deb", "-c", package(built)).stdout.splitlines()
    }
    assert {f".{line}" for line in query.stdout.splitlines() if line.startswith("/usr/lib/nqr/")} <= listed

"""The bootstrap scripts, as far as they can be seen without changing this machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.places import ROOT
from tests.unit.installer.effects.a_bench import Bench, bench

from nqrust.contract.paths import CACHE_DIR

__all__ = ["bench"]
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
def test_install_sh_requires_root(clone: Path, script: str, tmp_path: Path) -> None:
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
    from nqrust.installer.settings.options import OPTIONS, RUN_FLAGS

    flags = [(flag, ["x"]) for flag in ("--script", "--save-fingerprint", "--before")] + [("--detailed-exitcode", [])]
    for option in (*OPTIONS, *RUN_FLAGS):
        value = [] if option.form.value == "boolean" else [option.choices[0] if option.choices else "x"]
        flags += [(flag, value) for flag in (option.flag, option.off) if flag]
    for flag, value in flags:
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


@pytest.fixture
def ready(clone: Path, tmp_path: Path) -> Path:
    """A cache with the environment that the script wants, and a command line that says how it was called."""
    cli = clone / "src/nqrust/cli"
    shutil.rmtree(cli)
    cli.mkdir()
    (cli / "__init__.py").write_text("")
    (cli / "__main__.py").write_text(
        "import json, os, sys\n"
        "def main():\n"
        "    print(json.dumps([sys.argv, os.environ['NQR_SOURCE_CHECKOUT'], os.getcwd()]))\n"
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
    locks = b"".join((clone / "requirements" / name).read_bytes() for name in ("installer.txt", "build.txt"))
    key = hashlib.sha256(f"/usr/bin/python3 {version}\n".encode() + locks).hexdigest()[:16]
    venv = cache / "bootstrap" / key
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", venv], check=True)
    (venv / ".complete").write_text("")
    (cache / "bootstrap.json").write_text('{"schema": 1, "manager": "apt", "packages": []}')
    (cache / "bootstrap.log").write_text("")
    return cache


def over(programs: dict[str, str], folder: Path) -> str:
    """Shell commands that lay programs of ours over those of /usr/bin, for a process with mounts of its own."""
    lines = ["set -e"]
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
        lines.append(f"mount --bind {folder / name} /usr/bin/{name}")
    return "\n".join(lines)


def alone(mounts: str, script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As `run`, after `mounts` in a mount namespace of its own (unshare(1)), with an empty /var/cache."""
    prepared = f'set -e; mount -t tmpfs none /var/cache\n{mounts}\nexec "$0" "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", prepared, script, *arguments], capture_output=True, text=True, cwd="/", timeout=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
    )  # fmt: skip


@needs_root
def test_a_ready_environment_is_used_at_once_with_every_argument_as_given(clone: Path, ready: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sh"
    link.symlink_to(clone / "scripts/install/install.sh")
    for script, verb in ((clone / "scripts/install/install.sh", "install"), (link, "install")):
        done = run(script, "--config", "a b.yaml", "", "--x=*", NQR_CACHE_DIR=str(ready), PYTHONPATH="/nonsense")
        assert done.returncode == 7, done.stderr
        argv, checkout, cwd = json.loads(done.stdout)
        assert argv == ["nqr", verb, "--config", "a b.yaml", "", "--x=*"]
        assert checkout == str(clone) and cwd == "/"
    assert not list(clone.rglob("__pycache__")), "byte code goes to the cache, not into the clone"


@needs_root
@pytest.mark.parametrize(("needed", "left"), [("", []), ("Purg virtualenv [1]", ["python3-venv"])])
def test_install_sh_removes_borrowed_packages_after_a_kill(
    clone: Path, ready: Path, tmp_path: Path, needed: str, left: list[str]
) -> None:
    """Killed once the environment was complete, perhaps inside dpkg, which is brought to its end first. What another
    package needs by now is for uninstall to look at."""
    (ready / "bootstrap.json").unlink()
    (ready / "borrowed").write_text("python3-venv\n")
    apt = f"case $* in *-s*) echo 'Purg python3-venv [1]'; echo '{needed}' ;; *) echo \"$*\" >>{tmp_path}/calls ;; esac"
    busy = f"[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; exit 2; }}"  # another program has its lock
    dpkg = f'{busy}; echo "dpkg $*" >>{tmp_path}/calls'
    mounts = over({"apt-get": apt, "dpkg": dpkg, "dpkg-query": "echo 'install ok installed'"}, tmp_path)
    done = alone(mounts, clone / "scripts/install/install.sh", "--dry-run", NQR_CACHE_DIR=str(ready))
    assert done.returncode == 7 and json.loads(done.stdout)[0] == ["nqr", "install", "--dry-run"], done.stderr
    mended, fixed, *calls = (tmp_path / "calls").read_text().splitlines()
    assert mended == "dpkg --force-confold --configure -a" and fixed.endswith("--fix-broken install")
    assert [line.split()[-3:] for line in calls] == ([] if left else [["purge", "--", "python3-venv"]])
    assert not (ready / "borrowed").exists() and json.loads((ready / "bootstrap.json").read_text())["packages"] == left


@needs_root
def test_install_sh_waits_for_another_package_manager(clone: Path, ready: Path, tmp_path: Path) -> None:
    """apt-get(8) gives up at once where apt-daily.service holds the lock of the package lists, as it does after a boot."""
    (ready / "borrowed").write_text("python3-venv\n")
    english, german = "E: Could not get lock /var/lib/apt/lists/lock", "E: Sperre /var/lib/apt/lists/lock: keine"
    apt = (  # glibc ignores LANGUAGE in the locale C; older ones do not in C.UTF-8
        f"case $* in *-s*) exit 0 ;; esac; echo x >>{tmp_path}/calls; [ $(wc -l <{tmp_path}/calls) -ge 3 ] || "
        f'{{ case $LC_ALL:$LANGUAGE in C:* | *:) echo "{english}" ;; *) echo "{german}" ;; esac >&2; exit 100; }}'
    )
    mounts = over({"apt-get": apt, "dpkg-query": "echo 'install ok installed'"}, tmp_path)
    done = alone(mounts, clone / "scripts/install/install.sh", "--dry-run", NQR_CACHE_DIR=str(ready), LANGUAGE="de")
    assert done.returncode == 7, done.stderr
    assert done.stderr.count("Waiting for another package manager") == 1
    assert len((tmp_path / "calls").read_text().split()) == 4, (
        "twice in vain, what was begun is ended, what was borrowed goes back"
    )
    assert not (ready / "borrowed").exists() and json.loads((ready / "bootstrap.json").read_text())["packages"] == []


@needs_root
@pytest.mark.parametrize("given", ["/home/me/bin:/usr/bin", ""])
def test_the_programs_of_the_system_are_found_whatever_path_is(clone: Path, ready: Path, tmp_path: Path, given: str) -> None:
    """su(1) of Debian keeps a user's PATH, without sbin, where dpkg(1) wants its programs."""
    (ready / "borrowed").write_text("python3-venv\n")
    mounts = over(
        {"apt-get": f"echo $PATH >{tmp_path}/path", "dpkg": "true", "dpkg-query": "echo 'install ok installed'"}, tmp_path
    )
    script = clone / "scripts/install/install.sh"
    done = alone(f"{mounts}\nPATH={given}", Path("/bin/sh"), str(script), "--dry-run", NQR_CACHE_DIR=str(ready))
    assert done.returncode == 7, done.stderr
    found = (tmp_path / "path").read_text().strip().split(":")
    assert found[:4] == ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"]
    assert "" not in found, "an empty name is the working directory"


def test_archive_of_python_that_changes_after_it_was_checked_is_not_unpacked(tmp_path: Path) -> None:
    for name in ("good", "evil"):
        (tmp_path / name / "python").mkdir(parents=True)
        (tmp_path / name / "python" / "is").write_text(name)
        subprocess.run(["tar", "-czf", f"{tmp_path}/{name}.tgz", "-C", str(tmp_path / name), "python"], check=True)
    digest = hashlib.sha256((tmp_path / "good.tgz").read_bytes()).hexdigest()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sha256sum").write_text(f'#!/bin/sh\n/usr/bin/sha256sum "$@"\ncp {tmp_path}/evil.tgz {tmp_path}/good.tgz\n')
    (programs / "sha256sum").chmod(0o755)
    script = (
        f"set -eu; managed={tmp_path}/managed LOG={tmp_path}/log CACHE={tmp_path}/cache made_cache=no made_home=no "
        f'NQR_PYTHON_ARCHIVE={tmp_path}/good.tgz NQR_PYTHON_SHA256={digest}; . "$1"; unpack_python'
    )
    subprocess.run(
        ["sh", "-c", script, "sh", str(INSTALL.with_name("bring_python.sh"))],
        check=True,
        env={"PATH": f"{programs}:/usr/bin:/bin"},
    )
    unpacked = tmp_path / "managed.new"
    assert (unpacked / "python" / "is").read_text() == "good" and [one.name for one in unpacked.iterdir()] == ["python"]


@needs_root
@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--output", "json"], {}),
        (["--output=json", "--purge-data", "--non-interactive"], {}),
        ([], {"NQR_OUTPUT": "json"}),
        (["--dry-run", "--output", "json"], {}),
        (["--output", "json"], {"NQR_DRY_RUN": "Yes"}),
        (["--output", "json", "--no-dry-run"], {"NQR_DRY_RUN": "1"}),
        (["--output", "json", "--output", "text"], {}),
        (["--output", "text"], {"NQR_OUTPUT": "json"}),
        (["--script", "--output=json"], {}),
    ],
)
def test_without_an_installation_uninstall_says_what_nqr_would(
    clone: Path, bench: Bench, words: list[str], environment: dict[str, str]
) -> None:
    """In JSON the very document of `nqr uninstall`; for people one sentence on standard error."""
    kept = "mkdir -p /var/lib/nqrust-microvm/agent; echo mine >/var/lib/nqrust-microvm/reach.env.nqr-kept"  # an edit, see uninstall.md
    nowhere = f"mount -t tmpfs none /opt; mount -t tmpfs none /var/lib; {kept}"
    done = alone(nowhere, clone / "scripts/install/uninstall.sh", *words, **environment)
    assert done.returncode == 0
    if words[-1:] == ["text"] or words[:1] == ["--script"]:
        assert (done.stdout, done.stderr) == ("", "NQRust-MicroVM is not installed on this host; nothing to do.\n")
        return
    bench.host.remove_tree(CACHE_DIR)
    for name, value in environment.items():
        bench.patch.setenv(name, value)
    assert bench.nqr("uninstall", *words) == 0
    said, expected = ([json.loads(line) for line in text.splitlines()] for text in (done.stdout, bench.out))
    assert said == expected and done.stderr == ""


@needs_root
@pytest.mark.parametrize(("interpreter", "code"), [("/bin/sh", 5), ("/usr/bin/python-of-before", 7)])
def test_uninstall_goes_by_the_bootstrap_when_the_installed_one_cannot_run(
    clone: Path, ready: Path, tmp_path: Path, interpreter: str, code: int
) -> None:
    installed = tmp_path / "installer/venv/bin/nqr"
    installed.parent.mkdir(parents=True)
    installed.write_text(f"#!{interpreter}\n[ $1 = version ] || exit 5\n")
    installed.chmod(0o755)
    mounts = f"set -e; mkdir -p /usr/local/bin; mount -t tmpfs none /usr/local/bin; ln -s {installed} /usr/local/bin/nqr"
    done = alone(mounts, clone / "scripts/install/uninstall.sh", "--non-interactive", NQR_CACHE_DIR=str(ready))
    assert done.returncode == code, done.stderr


def test_scripts_pass_shellcheck() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    helper = ROOT / "src/nqrust/installer/release/helper/nqrust-helper"
    done = subprocess.run(
        ["shellcheck", *INSTALL.parent.glob("*.sh"), ROOT / "scripts/lock.sh", helper], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_locks_hold_hashes_and_no_address() -> None:
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        assert "://" not in text and " @ " not in text, path.name
        names = [line for line in text.splitlines() if line and line[0].isalnum()]
        assert names and all("==" in line and line.endswith("\\") for line in names), path.name


def test_locks_of_one_environment_agree() -> None:
    pins: dict[str, set[str]] = {}
    for part in ("installer", "manager", "agent", "ui", "supervisord", "test"):
        for line in (ROOT / f"requirements/{part}.txt").read_text().splitlines():
            if line and line[0].isalnum():
                pinned = line.removesuffix("\\").strip()
                pins.setdefault(pinned.partition("==")[0], set()).add(pinned.partition(";")[0].strip())
    test = (ROOT / "requirements/test.txt").read_text()
    for name, versions in pins.items():
        assert all(version in test for version in versions), name


DNF = """case $LANGUAGE$* in
de*--assumeno*) printf '%s\\n' 'Installieren:' ' python3.11  x86_64  3.11.9-7.el9  appstream  25 k'; exit 1 ;;
*--assumeno*) printf '%s\\n' 'Last metadata expiration check: 0:01:00 ago.' 'Dependencies resolved.' '====' ' Package  Arch  Version  Repository  Size' '====' \\
    'Installing:' ' python3.11  x86_64  3.11.9-7.el9  appstream  25 k' '     replacing  python3.9.x86_64 3.9-1' 'Upgrading:' ' openssl-libs  x86_64  1:3.2-2  baseos  2 M' \\
    'Installing dependencies:' ' python3.11-setuptools-wheel' '                 noarch  65.5-3  appstream  700 k' ' mpdecimal  x86_64  2.5-3  appstream  86 k' \\
    '' 'Transaction Summary' '====' 'Install  3 Packages' 'Upgrade  1 Package' '' 'Total download size: 10 M' 'Operation aborted.'; exit 1 ;;
*) cat "$NQR_CACHE_DIR/brought" >"$NQR_CACHE_DIR/known" ;;
esac"""


@needs_root
def test_install_sh_records_rpms_before_it_installs_them(clone: Path, tmp_path: Path) -> None:
    """A host without Python, with dnf, whose Python follows LANGUAGE before LC_ALL: in mounts of its own, where nothing of this machine's is to be seen."""
    programs, cache, hidden = tmp_path / "bin", tmp_path / "cache", Path("/usr/bin")
    programs.mkdir()
    for file in hidden.iterdir():
        if not file.name.startswith(("python", "apt", "rpm", "dnf", "dpkg")):
            (programs / file.name).symlink_to(file)
    (programs / "dnf").write_text(f"#!/bin/sh\n{DNF}\n")
    (programs / "dnf").chmod(0o755)
    pythons = {str(path.resolve()) for folder in (hidden, Path("/usr/local/bin")) for path in folder.glob("python3*")}
    hide = "".join(f"mount --bind /dev/null {path}; " for path in [*sorted(pythons), "/usr/bin/apt-get"])
    script = clone / "scripts/install/install.sh"
    home = tmp_path / "home"
    home.mkdir()
    mounts = f"mount --bind {home} /var/cache; {hide} PATH={programs}"
    done = alone(mounts, script, "--dry-run", NQR_CACHE_DIR=str(cache), LANGUAGE="de")
    assert done.returncode == 3 and "NQR-DEP-901" in done.stderr, done.stderr
    names = ["mpdecimal", "python3.11", "python3.11-setuptools-wheel"]
    assert (cache / "known").read_text().split() == names, "before the transaction"
    record = json.loads((cache / "bootstrap.json").read_text())
    assert (record["manager"], record["packages"]) == ("dnf", names)
    elsewhere = home / "nqrust-microvm/elsewhere"
    assert elsewhere.read_text() == f"made {cache}\n", "uninstall finds it"
    assert elsewhere.parent.stat().st_mode & 0o777 == 0o700
    alone(mounts, script, "--dry-run", NQR_CACHE_DIR=f"{cache}/")
    assert elsewhere.read_text() == f"made {cache}\n", "once"

"""The bootstrap with a bundle: what it opens, and what it refuses without a change of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.live.scripts.test_install_sh import alone, clone, over
from tests.unit.installer.release.test_bundle import KEY, OTHER, Draft, entry

from nqrust.host.local import LocalHost
from nqrust.installer.release.bundle.build import pack_python

__all__ = ["clone"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="checks what root sees")


def bootstrap(clone: Path, bundle: Path, cache: Path, *spelled: str) -> subprocess.CompletedProcess[str]:
    arguments = spelled or ("--release", str(bundle))
    return alone("", clone / "scripts/install/install.sh", *arguments, NQR_CACHE_DIR=str(cache))


def without_python(clone: Path) -> None:
    """Let the bootstrap look for a Python of the system where there is none."""
    script = clone / "scripts/install/install.sh"
    script.write_text(script.read_text().replace(" /usr/bin/python3", " /nowhere/python3").replace("/usr/local/bin/python3", ""))


def carried_python(folder: Path) -> bytes:
    """The archive of a Python, as a bundle carries it: here a script that starts that of this machine."""
    (folder / "root/bin").mkdir(parents=True)
    (folder / "root/bin/python3").write_text('#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
    (folder / "root/bin/python3").chmod(0o755)
    (folder / "root/.nqrust-python").write_text("3.11.2\n")
    pack_python(LocalHost(), f"{folder}/root", f"{folder}/packed/python.tar.gz")
    return (folder / "packed/python.tar.gz").read_bytes()


def signing_key(folder: Path, key: Ed25519PrivateKey) -> Path:
    path = folder / "key.pub"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def with_python(folder: Path) -> Draft:
    draft = Draft()
    draft.files["python/python.tar.gz"] = carried_python(folder / "python")
    return draft


def test_packed_python_is_the_same_each_time(tmp_path: Path) -> None:
    assert carried_python(tmp_path / "one") == carried_python(tmp_path / "two")


def test_bundle_brings_a_python_to_a_host_without_one(clone: Path, tmp_path: Path) -> None:
    without_python(clone)
    bundle = with_python(tmp_path).write(tmp_path / "b.tar.zst")
    spelled = ("--release", str(bundle), "--release-key", str(signing_key(tmp_path, KEY)))
    done = bootstrap(clone, bundle, tmp_path / "cache", *spelled)
    assert (tmp_path / "cache/python/bin/python3").exists(), done.stderr
    assert (tmp_path / "cache/python/.nqrust-python").exists(), "the installation copies it"
    assert done.returncode == 1 and "NQR-DEP-910" in done.stderr, "its wheels are not those that the locks name"


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_python_of_a_bundle_is_opened_where_only_root_writes(clone: Path, tmp_path: Path, key: Ed25519PrivateKey) -> None:
    """Whoever owns the folder could replace the list once its signature was checked."""
    without_python(clone)
    bundle = with_python(tmp_path).write(tmp_path / "b.tar.zst")
    place = tmp_path / "place"
    place.mkdir()
    shutil.copy("/usr/bin/tar", tmp_path / "real-tar")
    mounts = over({"tar": f'echo "$*" >>{tmp_path}/calls; exec {tmp_path}/real-tar "$@"'}, tmp_path)
    options = ("--release", str(bundle), "--release-key", str(signing_key(tmp_path, key)))
    done = alone(mounts, clone / "scripts/install/install.sh", *options, NQR_CACHE_DIR=f"{place}/cache")
    assert ("NQR-DEP-964" in done.stderr) is (key is OTHER), done.stderr
    opened = (tmp_path / "calls").read_text().splitlines()[0]
    assert re.search(rf" -C {place}/nqrust-python\.\w+ ", opened), opened
    assert [path.name for path in place.iterdir()] == (["cache"] if key is KEY else []), "nothing is left"


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_openssl_that_checks_no_files_is_no_obstacle_and_no_way_around(
    clone: Path, tmp_path: Path, key: Ed25519PrivateKey
) -> None:
    """As in Debian 11: the command of OpenSSL 1.1.1 does not know -rawin."""
    without_python(clone)
    script = clone / "scripts/install/open_bundle.sh"
    script.write_text(script.read_text().replace("openssl pkeyutl", "openssl pkeyutl -unknown"))
    bundle = with_python(tmp_path).write(tmp_path / "b.tar.zst")
    spelled = ("--release", str(bundle), "--release-key", str(signing_key(tmp_path, key)))
    done = bootstrap(clone, bundle, tmp_path / "cache", *spelled)
    assert ("NQR-DEP-964" in done.stderr) is (key is OTHER), done.stderr
    assert (tmp_path / "cache/python/bin/python3").exists() is (key is KEY)


def test_python_of_a_bundle_of_another_key_is_not_run(clone: Path, tmp_path: Path) -> None:
    without_python(clone)
    bundle = with_python(tmp_path).write(tmp_path / "b.tar.zst")
    done = bootstrap(clone, bundle, tmp_path / "cache", f"--release={bundle}", f"--release-key={signing_key(tmp_path, OTHER)}")
    assert done.returncode == 3 and "NQR-DEP-964" in done.stderr, done.stderr
    assert not (tmp_path / "cache").exists(), "nothing was changed"


@pytest.mark.parametrize("spelled", [("--config", "{}"), ("--config={}",)])
def test_python_of_a_bundle_is_not_run_before_a_key_that_only_it_could_read(
    clone: Path, tmp_path: Path, spelled: tuple[str, ...]
) -> None:
    without_python(clone)
    bundle, config = with_python(tmp_path).write(tmp_path / "b.tar.zst"), tmp_path / "nqr.yaml"
    config.write_text(f"release:\n  public_key: {signing_key(tmp_path, OTHER)}\n")
    named = [word.format(config) for word in spelled]
    done = bootstrap(clone, bundle, tmp_path / "cache", f"--release={bundle}", *named)
    assert done.returncode == 3 and "NQR-DEP-990" in done.stderr, done.stderr
    assert not (tmp_path / "cache").exists(), "nothing was changed"
    config.write_text("mode: minimal\n")
    bootstrap(clone, bundle, tmp_path / "cache", f"--release={bundle}", *named)
    assert (tmp_path / "cache/python/bin/python3").exists()


def test_python_that_its_list_does_not_name_is_not_run(clone: Path, tmp_path: Path) -> None:
    without_python(clone)
    draft = with_python(tmp_path)
    draft.carried = lambda members: {**members, "python/python.tar.gz": b"another"}
    done = bootstrap(clone, draft.write(tmp_path / "b.tar.zst"), tmp_path / "cache")
    assert done.returncode == 3 and "NQR-DEP-909" in done.stderr and not (tmp_path / "cache").exists()


def test_list_of_a_bundle_is_not_read_through_a_link(clone: Path, tmp_path: Path) -> None:
    """Whoever can change what it leads to could do so once its signature was checked."""
    without_python(clone)
    draft = with_python(tmp_path)
    (tmp_path / "list").write_bytes(draft.list)
    draft.extra = [(entry("checksums.txt", kind=tarfile.SYMTYPE, link=str(tmp_path / "list")), b"")]
    bundle = draft.write(tmp_path / "b.tar.zst")
    spelled = ("--release", str(bundle), "--release-key", str(signing_key(tmp_path, KEY)))
    done = bootstrap(clone, bundle, tmp_path / "cache", *spelled)
    assert done.returncode == 3 and "NQR-DEP-909" in done.stderr and not (tmp_path / "cache").exists(), done.stderr


def test_bundle_needs_a_python(clone: Path, tmp_path: Path) -> None:
    without_python(clone)
    done = bootstrap(clone, Draft().write(tmp_path / "b.tar.zst"), tmp_path / "cache")
    assert done.returncode == 3 and "NQR-DEP-909" in done.stderr, done.stderr
    assert not (tmp_path / "cache").exists(), "nothing was changed"


def test_damaged_bundle_is_refused_by_the_bootstrap(clone: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar.zst"
    bundle.write_bytes(b"not a bundle")
    for spelled in ((), (f"--release={bundle}",), ("--mode", "minimal", "--release", str(bundle))):
        done = bootstrap(clone, bundle, tmp_path / "cache", *spelled)
        assert done.returncode == 1 and "NQR-DEP-911" in done.stderr, done.stderr


def test_bundle_of_another_copy_of_the_repository_is_refused(clone: Path, tmp_path: Path) -> None:
    done = bootstrap(clone, Draft().write(tmp_path / "b.tar.zst"), tmp_path / "cache")
    assert done.returncode == 1 and "NQR-DEP-910" in done.stderr, done.stderr
    assert list((tmp_path / "cache/wheelhouse").iterdir()) == [], "its wheels are not those that the locks name"


@pytest.mark.parametrize("path", ["/usr/sbin:/usr/bin:/sbin:/bin", ""], ids=["zstd", "dpkg-deb"])
def test_bundle_opens_with_either_program(path: str, tmp_path: Path) -> None:
    """The second case has no program `zstd`, like a bare Debian."""
    draft = Draft()
    bundle = draft.write(tmp_path / "odd.tar.zst")
    if bundle.stat().st_size % 2 == 0:
        draft = Draft(version="0.5.10")
        bundle = draft.write(tmp_path / "odd.tar.zst")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("stat", "cat", "dpkg-deb", "tar", "rm"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    script = '. "$1/scripts/install/open_bundle.sh"; plain_bundle "$2"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(Path(__file__).parents[3]), str(bundle)],
        capture_output=True, timeout=60, env={"PATH": path or str(programs)}, check=True,
    )  # fmt: skip
    assert done.stdout == draft.tar()

"""A stand-in tree in upstream's form, with a crate of the registry and a Next.js page with pnpm's lock, built by the real tools."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.places import ROOT

from nqrust.host.local import LocalHost
from nqrust.image.guest_agent import find_program
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import upstream
from nqrust.installer.release.source_tree import queries
from nqrust.installer.release.source_tree.build import build

TREE = ROOT / "tests/fakes/source_tree"
# Each build script tries what a hostile one would.
HOSTILE = """\
fn main() {
    assert!(std::fs::write("/etc/nqr-was-here", "").is_err(), "it may write in /etc");
    assert!(std::fs::read("/etc/shadow").is_err(), "it may read password hashes");
    for folder in ["/tmp", "/var/tmp", "/dev/shm"] {
        std::fs::write(format!("{folder}/nqr-was-here"), "").expect("it may write there, where it sees no file of others");
    }
    println!("cargo:warning=built without privileges");
}
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="as root, builds run as another user"),
    pytest.mark.skipif(find_program(LocalHost(), "cargo") is None, reason="no cargo on this machine"),
    pytest.mark.timeout(1500),
]


def run(tree: Path, to: Path, scratch: Path, *, with_ui: bool) -> list[str]:
    told: list[str] = []
    try:
        build(
            LocalHost(),
            tree=str(tree),
            to=str(to),
            scratch=str(scratch),
            with_ui=with_ui,
            progress=lambda text, _: told.append(text),
        )
    except ReleaseError as error:
        signs = ("index.crates.io", "ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "ERR_PNPM_META_FETCH_FAIL")
        if any(sign in f"{error.what} {' '.join(told)}" for sign in signs):
            pytest.skip(f"no registry can be reached: {error.what}")
        raise
    return told


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    copy = tmp_path / "tree"
    shutil.copytree(TREE, copy)
    (copy / "manager/build.rs").write_text(HOSTILE)
    return copy


@pytest.fixture
def scratch() -> Iterator[Path]:
    folder = Path(f"/var/tmp/nqr-build-test-{os.getpid()}")
    yield folder
    assert not folder.exists(), "the scratch folder is gone"


def test_programs_are_built_without_privileges_and_listed(tree: Path, tmp_path: Path, scratch: Path) -> None:
    before = sorted(path.relative_to(tree) for path in tree.rglob("*"))
    told = run(tree, tmp_path / "release", scratch, with_ui=False)
    release = tmp_path / "release"
    names = {upstream.ASSETS[name] for name in ("manager", "agent", "guest-agent")}
    assert {path.name for path in release.iterdir()} == names | {"checksums.txt", "release-manifest.json"}
    digests = upstream.parse_checksums((release / "checksums.txt").read_text())
    assert digests == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in release.iterdir() if path.name != "checksums.txt"
    }
    said = subprocess.run([release / upstream.ASSETS["guest-agent"]], capture_output=True, text=True, check=True).stdout
    assert said.startswith("guest-agent ")
    sizes = {path.name: path.stat().st_size for path in release.iterdir()}
    described = upstream.describe("x", tag="t", checksums=(release / "checksums.txt").read_text(), sizes=sizes,
                                  manifest=(release / "release-manifest.json").read_text())  # fmt: skip
    assert described.version == "0.9.1" and described.component("manager") and not described.component("ui")
    assert any("built without privileges" in line for line in told)
    assert "Compiling itoa" in (tmp_path / "release.log").read_text()
    assert sorted(path.relative_to(tree) for path in tree.rglob("*")) == before, "nothing is written into the tree"
    assert [path for path in ("/tmp", "/var/tmp", "/dev/shm") if Path(path, "nqr-was-here").exists()] == []


def test_failed_build_leaves_a_log_and_no_release(tree: Path, tmp_path: Path, scratch: Path) -> None:
    (tree / "agent/src/main.rs").write_text("fn main() { not rust }\n")
    with pytest.raises(ReleaseError) as caught:
        run(tree, tmp_path / "release", scratch, with_ui=False)
    assert caught.value.code == "NQR-REL-091"
    assert not (tmp_path / "release").exists() and "error:" in (tmp_path / "release.log").read_text()


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine")
def test_web_ui_starts_from_its_archive(tree: Path, tmp_path: Path, scratch: Path) -> None:
    run(tree, tmp_path / "release", scratch, with_ui=True)
    with tarfile.open(tmp_path / "release" / upstream.ASSETS["ui"]) as archive:
        archive.extractall(tmp_path / "ui")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {"PATH": "/usr/bin:/bin", "PORT": str(port), "HOSTNAME": "127.0.0.1"}
    server = subprocess.Popen(["node", "server.js"], cwd=tmp_path / "ui", env=environment)
    try:
        assert "stand-in UI" in page(f"http://127.0.0.1:{port}/")
        assert page(f"http://127.0.0.1:{port}/mark.txt") == "stand-in\n"
    finally:
        server.kill()
        server.wait()


@pytest.mark.matrix
def test_rust_of_its_publisher_builds_a_tree_that_asks_for_it(tree: Path, tmp_path: Path, scratch: Path) -> None:
    (tree / "rust-toolchain.toml").write_text('[toolchain]\nchannel = "1.90.0"\ntargets = ["x86_64-unknown-linux-musl"]\n')
    home = sorted(Path("/root").iterdir())
    try:
        run(tree, tmp_path / "release", scratch, with_ui=False)
    except ReleaseError as error:
        if error.code == "NQR-REL-099":
            pytest.skip(f"the publisher cannot be reached: {error.what}")
        raise
    log = (tmp_path / "release.log").read_text()
    assert "cargo 1.90.0" in log and "--target x86_64-unknown-linux-musl" in log
    assert sorted(Path("/root").iterdir()) == home
    program = (tmp_path / "release" / upstream.ASSETS["guest-agent"]).read_bytes()
    assert b"/ld-" not in program[: 1 << 16], "static"


QUERY = """\
#[allow(dead_code)]
fn asks(pool: &sqlx::PgPool) {
    let _ = sqlx::query!("SELECT name FROM vms WHERE id = $1", uuid_of()).fetch_all(pool);
}
fn uuid_of() -> i64 {
    1
}
"""
DEPENDENCY = (
    '\n[dependencies.sqlx]\nversion = "=0.8.6"\ndefault-features = false\nfeatures = ["postgres", "macros", "runtime-tokio"]\n'
)


@pytest.mark.matrix
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not queries.server_programs(LocalHost()), reason="no PostgreSQL server on this machine")
def test_queries_are_checked_against_the_migrations_of_the_tree(tree: Path, tmp_path: Path, scratch: Path) -> None:
    """cargo compiles the SQLx CLI for it."""
    manager = tree / "manager"
    (manager / "Cargo.toml").write_text((manager / "Cargo.toml").read_text() + DEPENDENCY)
    (manager / "migrations/0001_vms.sql").write_text("CREATE TABLE vms (id BIGINT PRIMARY KEY, name TEXT NOT NULL);\n")
    (manager / "src/main.rs").write_text((manager / "src/main.rs").read_text() + QUERY)
    locked = subprocess.run(
        [str(find_program(LocalHost(), "cargo")), "generate-lockfile"], cwd=tree, capture_output=True, text=True, check=False
    )
    if locked.returncode:
        pytest.skip(f"no registry can be reached: {locked.stderr[-300:]}")
    told = run(tree, tmp_path / "release", scratch, with_ui=False)
    assert any("Applied 1/migrate vms" in line for line in told), told
    assert (tmp_path / "release" / upstream.ASSETS["manager"]).exists()
    (manager / "src/main.rs").write_text((manager / "src/main.rs").read_text().replace("SELECT name", "SELECT no_such_column"))
    with pytest.raises(ReleaseError) as caught:
        run(tree, tmp_path / "wrong", scratch, with_ui=False)
    assert caught.value.code == "NQR-REL-091" and "no_such_column" in (tmp_path / "wrong.log").read_text()


def page(url: str) -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)

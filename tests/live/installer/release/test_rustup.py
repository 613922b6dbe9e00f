"""rustup itself brings a toolchain into the scratch folder of a build, from a server on this machine."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fakes import rust_publisher

from nqrust.host.local import LocalHost
from nqrust.image.guest_agent import MUSL_TARGET, find_program
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import silent
from nqrust.installer.release.source_tree import rust, rustup
from nqrust.installer.release.source_tree.wanted_rust import WantedRust
from nqrust.installer.release.source_tree.workplace import Workplace, close_workplace, open_workplace

VERSION = "1.90.0"
WANTED = WantedRust((1, 90, 0), VERSION)
PROGRAM = find_program(LocalHost(), "rustup")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="as root, builds run as another user"),
    pytest.mark.skipif(PROGRAM is None, reason="no rustup on this machine"),
]


@dataclass
class Publisher:
    folder: Path
    address: str


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    address = f"http://127.0.0.1:{server.server_port}"
    digest = rust_publisher.publish(folder, address, VERSION, Path(os.path.realpath(str(PROGRAM))), rustup.VERSION)
    monkeypatch.setattr(rustup, "DIGEST", digest)
    monkeypatch.setenv(rustup.INSTALLERS, f"{address}/rustup")
    monkeypatch.setenv(rustup.TOOLCHAINS, address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Publisher(folder, address)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    tree = tmp_path / "tree"
    tree.mkdir()
    made = open_workplace(LocalHost(), f"/var/tmp/nqr-rustup-test-{os.getpid()}", str(tree), silent)
    yield made
    close_workplace(made)
    assert not Path(made.folder).exists()


def test_toolchain_lands_in_the_scratch_folder_with_the_musl_target(publisher: Publisher, place: Workplace) -> None:
    before = set(Path("/root").iterdir())
    sysroot = rustup.install(place, WANTED)
    assert sysroot.startswith(f"{place.folder}/home/rustup/toolchains/{VERSION}")
    assert rust.has_musl(place.host, sysroot) and Path(sysroot, "lib/rustlib", MUSL_TARGET).is_dir()
    cargo = rust.cargo_of(place, sysroot)
    assert cargo.run(place, "--version") == f"cargo {VERSION} (0123456789 2026-01-02)\n"
    assert os.stat(f"{sysroot}/bin/rustc").st_uid == place.number, "without privileges"
    assert set(Path("/root").iterdir()) == before


def test_another_program_than_the_pinned_one_is_not_started(publisher: Publisher, place: Workplace) -> None:
    (program,) = publisher.folder.glob("rustup/archive/*/*/rustup-init")
    program.write_text("#!/bin/sh\ntouch /var/tmp/nqr-started\n")
    with pytest.raises(ReleaseError) as caught:
        rustup.install(place, WANTED)
    assert caught.value.code == "NQR-REL-099" and "rustup-init" in caught.value.what
    assert not Path(place.folder, "rustup-init").exists()


def test_a_toolchain_that_nobody_publishes_and_a_changed_component_are_refused(publisher: Publisher, place: Workplace) -> None:
    with pytest.raises(ReleaseError) as caught:
        rustup.install(place, WantedRust((1, 91), "1.91.0"))
    assert caught.value.code == "NQR-REL-099" and "Rust 1.91 or later" in caught.value.what
    with open(publisher.folder / f"dist/cargo-{rust_publisher.HOST}.tar.gz", "ab") as file:
        file.write(b"x")
    with pytest.raises(ReleaseError) as caught:
        rustup.install(place, WANTED)
    assert caught.value.code == "NQR-REL-099"

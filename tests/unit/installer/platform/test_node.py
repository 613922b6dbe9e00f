"""Node.js for a release's web UI: which one, and from where."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.local import LocalHost
from nqrust.installer.distro import registry
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict
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
def test_an_older_one_is_refused_with_both_ways_out(program: str, says: str) -> None:
    with pytest.raises(StepFailed) as refused:
        find(host(program, says), BIN, OLD, {})
    assert refused.value.code == "NQR-REL-071" and "18" in refused.value.what
    assert ARCHIVE_VARIABLE in refused.value.cure and "--no-ui" in refused.value.cure


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
    found = NodeProgram(Node(str(tmp_path / "node"), archive="/none.tgz"), str(tmp_path)).inspect(LocalHost())
    assert isinstance(found, Conflict) and found.code == "NQR-REL-072" and "/none.tgz" in found.why

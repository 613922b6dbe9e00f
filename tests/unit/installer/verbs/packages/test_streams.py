"""Streams of dnf modules: enabled where nobody chose one, and forgotten again."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import round_trip

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Completed
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.verbs.packages.dnf.stream import ModuleStream

STREAM = ModuleStream("postgresql", "15", unless="postgresql")
FILE = "/etc/dnf/modules.d/postgresql.module"


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    host.put("/etc/dnf/modules.d/perl.module", "")

    def enable(host: FakeHost, cmd: Command) -> None:
        name, stream = cmd.argv[-1].split(":")
        host.put(f"/etc/dnf/modules.d/{name}.module", f"[{name}]\nname={name}\nstream={stream}\nprofiles=\nstate=enabled\n")

    host.on("dnf", "-y", "-q", "module", "enable", prefix=True, changes=True, answer=enable)
    host.on("rpm", "-q", "postgresql", answer=Completed((), 1, "package postgresql is not installed\n", ""))
    return host


def test_stream_is_enabled_and_forgotten(host: FakeHost) -> None:
    round_trip(host, STREAM)
    assert not host.exists(FILE)


@pytest.mark.parametrize("stream", ["13", "16"])
def test_chosen_stream_stays(host: FakeHost, stream: str) -> None:
    host.put(FILE, f"[postgresql]\nname=postgresql\nstream={stream}\nprofiles=server\nstate=enabled\n")
    found = STREAM.inspect(host)
    assert isinstance(found, Satisfied) and stream in found.note


def test_reset_stream_counts_as_none_and_its_file_comes_back(host: FakeHost) -> None:
    host.put(FILE, "[postgresql]\nname=postgresql\nstream=\nprofiles=\nstate=\n")
    round_trip(host, STREAM)


def test_installed_package_decides(host: FakeHost) -> None:
    host.on("rpm", "-q", "postgresql", answer="postgresql-12.5-1.el8\n")
    assert isinstance(STREAM.inspect(host), Satisfied)


def test_unknown_stream_is_reported_with_a_cure(host: FakeHost) -> None:
    failed = CommandFailed(("dnf",), 1, "Error: Problems in request:\nmissing groups or modules: postgresql:15\n")
    host.on("dnf", "-y", "-q", "module", "enable", prefix=True, changes=True, answer=failed)
    with pytest.raises(StepFailed) as caught:
        STREAM.apply(host)
    assert caught.value.code == "NQR-DEP-107" and "postgresql:15" in caught.value.what and "module list" in caught.value.cure

"""RPMs: dependencies, half-unpacked packages, and configuration that rpm moved aside. The output is rpm 4.18's."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.port import Completed
from nqrust.installer.verbs.packages import spared, traces
from nqrust.installer.verbs.packages.dnf import removing as rpms

NEEDED = """error: Failed dependencies:
	library-api(two) >= 2 is needed by (installed) client-side-3.0-1.noarch
	/usr/share/library/x is needed by (installed) stranger-1:4.0-1.noarch
"""
NOBODY = Completed((), 1, "no package provides it\n", "")


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    for program in ("rpm", "dnf"):
        host.install(program)
    return host


def test_rpm_ends_with_the_number_of_packages_that_it_was_asked_for(host: FakeHost) -> None:
    host.on("rpm", "-e", "--test", prefix=True, answer=Completed((), 2, "", NEEDED))
    assert rpms.would_go(host, ["library", "server"]) == {"library", "server", "client-side", "stranger"}


def test_rpm_needs_are_matched_by_name_path_and_condition(host: FakeHost) -> None:
    provides = "library\tlibrary\nlibrary\tlibrary-api(two)\nold\told\n"
    requires = "server\tlibrary-api(two)\nstranger\t/usr/share/library/x\nguest\t(library-api(two) if old >= 2)\nalone\t/gone\n"
    host.on("rpm", "-qa", "--qf", "[%{=NAME}\t%{PROVIDES}\n]", answer=provides)
    host.on("rpm", "-qa", "--qf", "[%{=NAME}\t%{REQUIRENAME}\n]", answer=requires)
    who = ("rpm", "-q", "--whatprovides", "--qf", "%{NAME}\t\n")
    host.on(*who, "/usr/share/library/x", answer="library\t\n")
    host.on(*who, "/gone", answer=Completed((), 1, "no package provides /gone\n", ""))
    assert rpms.needs(host) == {"server": {"library"}, "stranger": {"library"}, "guest": {"library", "old"}, "alone": set()}


def test_unrecorded_rpm_files_are_found_in_the_archive(host: FakeHost) -> None:
    archive = "/var/cache/dnf/appstream-1/packages/client-1-1.noarch.rpm"
    digest = hashlib.sha256(b"shipped\n").hexdigest()
    for path in (archive, "/usr/share/client/x", "/usr/share/client/with space;6b040849", "/usr/share/client/theirs;1"):
        host.put(path, "shipped\n")
    host.put("/usr/share/client/edited", "by somebody\n")
    host.put("/usr/share/owned", "shipped\n")
    ends = f"8 1 {digest} 0100644 root root 0 0 0 X"
    dump = "".join(f"{path} {ends}\n" for path in ("/usr/share/client/x", "/usr/share/client/with space", "/usr/share/client/edited",
                                                  "/usr/share/client/absent", "/usr/share/owned"))  # fmt: skip
    dump = f"/usr/share/client 4096 1 {'0' * 64} 040755 root root 0 0 0 X\n" + dump
    host.on("rpm", "-qp", "--qf", "%{NAME}", archive, answer="client")
    host.on("rpm", "-qp", "--dump", archive, answer=dump)
    host.on("rpm", "-q", "--whatprovides", prefix=True, answer=NOBODY)
    host.on("rpm", "-q", "--whatprovides", "--qf", "%{NAME}\t\n", "/usr/share/owned", answer="other\t\n")
    found = rpms.leftovers(host, {"client"})
    assert sorted(found["paths"]) == ["/usr/share/client", "/usr/share/client/with space;6b040849", "/usr/share/client/x"]
    assert rpms.leftovers(host, {"another"})["paths"] == {} == rpms.leftovers(host, set())["paths"]
    assert len(traces.remove(host, found, frozenset())) == 1, "the folder holds what is not ours"
    assert host.listdir("/usr/share/client") == ["edited", "theirs;1"]


@pytest.fixture
def aside(host: FakeHost) -> dict[str, Any]:
    """Both files were there before. The package moved one aside and put its own beside the other."""
    host.put_directory("/etc/server")
    host.put("/etc/server/plain", "shipped\n")
    host.put("/etc/server/plain.rpmorig", "mine\n", mode=0o640)
    host.put("/etc/server/kept", "mine too\n")
    host.put("/etc/server/kept.rpmnew", "shipped\n")
    before = {"paths": ["/etc/server", "/etc/server/kept", "/etc/server/plain"]}
    listed = frozenset(before["paths"])
    return spared.look(host, before, "", listed, rpms.ASIDES)


def test_configuration_moved_aside_by_rpm_is_restored(host: FakeHost, aside: dict[str, Any]) -> None:
    host.remove("/etc/server/plain")
    host.rename("/etc/server/kept", "/etc/server/kept.rpmsave")
    for _ in range(2):
        spared.put_back(host, aside)
        assert host.listdir("/etc/server") == ["kept", "plain"]
        assert (host.read_text("/etc/server/plain"), host.read_text("/etc/server/kept")) == ("mine\n", "mine too\n")
    stat = host.stat("/etc/server/plain")
    assert stat is not None and stat.mode == 0o640


def test_configuration_edited_since_stays_beside_the_restored_one(host: FakeHost, aside: dict[str, Any]) -> None:
    host.remove("/etc/server/kept.rpmnew")
    host.rename("/etc/server/plain", "/etc/server/plain.rpmsave")
    host.put("/etc/server/kept", "edited at last\n")
    host.put("/etc/server/kept.rpmsave", "edited\n")
    spared.put_back(host, aside)
    assert host.read_text("/etc/server/plain.rpmsave") == "shipped\n"
    assert host.read_text("/etc/server/kept") == "edited at last\n" and host.read_text("/etc/server/kept.rpmsave") == "edited\n"


def test_a_folder_that_went_with_the_package_comes_back_for_its_file(host: FakeHost, aside: dict[str, Any]) -> None:
    host.remove_tree("/etc/server")
    spared.put_back(host, aside)
    assert host.listdir("/etc/server") == ["kept", "plain"]

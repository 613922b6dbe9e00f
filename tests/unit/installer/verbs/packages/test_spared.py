"""Objects from before a transaction survive the purge of its packages."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.package_manager import few

from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.packages import undo as packages
from nqrust.installer.verbs.packages.registry import MANAGERS
from nqrust.installer.verbs.registry import VERBS

POSTRM = "case $1 in purge) rm -f /etc/locale.conf /etc/default/locale /etc/made.conf ;; esac\n"
LOST = ("/etc/locale.conf", "/etc/default/locale", "/etc/made.conf", "/etc/listed.conf")


class Cut(Exception):
    pass


class Bench:
    """A host where the purge of `locales`, a package of nqr, removes files of others."""

    def __init__(self) -> None:
        self.host = FakeHost.debian12()
        self.installed = {"base"}
        self.cut_off = False
        self.host.put("/etc/listed.conf", "there first\n", mode=0o600)
        self.host.put("/etc/locale.conf", "LANG=de_AT.UTF-8\n", mode=0o640)
        if not self.host.exists("/etc/default"):
            self.host.put_directory("/etc/default")
        self.host.symlink("../locale.conf", "/etc/default/locale")
        self.context = UndoContext(self.host, Originals(self.host, "/var/lib/originals"))
        undo = VERBS.capture(self.context.originals, Undo("packages", {"manager": "few", "before": ["base"], "manual": []}))
        self.installed.add("locales")
        self.host.put("/etc/made.conf", "by the package\n")
        self.args: dict[str, Any] = undo.args

    def remover(self) -> packages.Remover:
        def purge(host: FakeHost, names: set[str], configured: set[str]) -> None:
            for path in LOST:
                host.remove(path)
            self.installed -= names
            if self.cut_off:
                self.cut_off = False
                raise Cut

        return packages.Remover(
            lambda host: lambda name: name, lambda host: set(self.installed), lambda host: set(),
            lambda host, names: set(names), lambda host: {}, purge,  # type: ignore[arg-type]
            lambda host, names: POSTRM if "locales" in names else "",
            lambda host, names: frozenset({"/etc/listed.conf"} if "locales" in names else ()),
        )  # fmt: skip


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setitem(MANAGERS, "few", few(bench.remover()))
    return bench


def check(host: FakeHost) -> None:
    assert host.read_text("/etc/locale.conf") == "LANG=de_AT.UTF-8\n"
    stat = host.stat("/etc/locale.conf")
    assert stat is not None and stat.mode == 0o640
    assert host.readlink("/etc/default/locale") == "../locale.conf"
    assert host.read_text("/etc/listed.conf") == "there first\n"
    assert not host.exists("/etc/made.conf"), "what came with the packages goes with them"


def test_uninstall_restores_files_of_others_that_a_package_purge_removed(bench: Bench) -> None:
    packages.packages(bench.context, bench.args)
    assert bench.installed == {"base"}
    check(bench.host)


def test_uninstall_restores_a_spared_file_after_an_interrupted_purge(bench: Bench) -> None:
    bench.cut_off = True
    with pytest.raises(Cut):
        packages.packages(bench.context, bench.args)
    assert not bench.host.exists("/etc/locale.conf")
    packages.packages(bench.context, bench.args)
    check(bench.host)


def test_uninstall_restores_a_spared_file_with_its_current_content(bench: Bench) -> None:
    bench.host.put("/etc/locale.conf", "LANG=C.UTF-8\n")
    packages.packages(bench.context, bench.args)
    assert bench.host.read_text("/etc/locale.conf") == "LANG=C.UTF-8\n"

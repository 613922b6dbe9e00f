"""After an uninstall that kept data, the refusals of a fresh host hold again, and what was kept is no obstacle."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.installer.effects.observing import RELEASE, SECRETS
from tests.unit.installer.operations.a_used_platform import DUMP, FOLDERS, LAYOUT, Bench, Made, bench, uninstall
from tests.unit.installer.phases.a_host import fit

from nqrust.host.errors import CommandFailed
from nqrust.installer import secret_store
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.operations import looking, site
from nqrust.installer.release.sources import Opened
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.mode import Mode
from nqrust.installer.verbs.file.undo import undo_file

__all__ = ["bench"]

STEPS = (
    *FOLDERS,
    Mode(LAYOUT.image_dir, 0o1775, "root", "nqrust"),
    Made("migrate", (undo_file(DUMP, ours_sha256=None, retain=Retain.database),), does=lambda host: host.put(DUMP, "dump")),
)


@pytest.fixture
def used(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(site, "open_source", lambda *_: Opened(RELEASE, "/bundle/release", "", None))
    monkeypatch.setattr(secret_store, "generate", lambda: SECRETS)
    bench.host.add_group("nqrust", 990)
    assert bench.run(*STEPS).outcome == "ok"
    bench.vm()
    return bench


def found(bench: Bench, **paths: Any) -> dict[str, str]:
    """Code -> sentence of each refusal."""
    request = Request(Settings.model_validate({"mode": "production", "paths": paths}))
    seen = looking.look(bench.site(), request, fit(), NullReporter())
    return {one.code: one.what for checked in seen.checked for one in checked.findings if one.severity.value == "error"}


def test_an_install_over_the_kept_data_is_not_refused(used: Bench) -> None:
    assert found(used) == {}
    assert uninstall().outcome == "ok" and used.host.exists(DUMP)
    assert found(used) == {}
    assert used.run(*STEPS).outcome == "ok" and found(used) == {}


@pytest.mark.parametrize("path", ["/etc", "/usr/local/bin"])
def test_a_folder_of_the_system_is_refused(used: Bench, path: str) -> None:
    uninstall()
    assert set(found(used, image_dir=path)) == {"NQR-PRE-055"}


def test_an_image_folder_of_others_is_refused(used: Bench) -> None:
    uninstall()
    used.host.put_directory("/data/theirs", mode=0o2775, owner="root", group="100")
    assert set(found(used, image_dir="/data/theirs")) == {"NQR-PRE-033"}


@pytest.mark.parametrize(
    "theirs", [f"{LAYOUT.install_dir}/bin/manager", LAYOUT.manager_env, "/etc/systemd/system/nqrust-manager.service"]
)
def test_an_installation_of_another_installer_is_refused(used: Bench, theirs: str) -> None:
    uninstall()
    used.host.put(theirs, "x")
    refused = found(used)
    assert set(refused) == {"NQR-PRE-015"} and refused["NQR-PRE-015"].startswith(theirs.removesuffix("/bin/manager"))


@pytest.mark.parametrize("what", ["failed", "killed"])
def test_an_uninstall_that_has_not_ended_leaves_an_installation(used: Bench, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is nqr's."""

    def held(path: str) -> None:
        raise CommandFailed(("rm", path), 1, "busy") if what == "failed" else KeyboardInterrupt

    used.host.put(f"{LAYOUT.install_dir}/bin/manager", "x")
    monkeypatch.setattr(used.host, "remove", held)
    if what == "failed":
        assert uninstall().outcome == "partly_undone"
    else:
        with pytest.raises(KeyboardInterrupt):
            uninstall()
    assert found(used) == {}

"""mke2fs(8) makes `lost+found` at the top of a file system. An administrator may give one to each folder of the platform."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.operations.a_used_platform import FOLDERS, LAYOUT, Bench, bench, rollback
from tests.unit.installer.phases.a_host import fit

from nqrust.contract import paths
from nqrust.installer.operations.belongings import Belongings
from nqrust.installer.operations.remove import forget_state
from nqrust.installer.preflight import changes
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.settings.model import Settings

__all__ = ["bench"]
OF_DATA = (LAYOUT.data_dir, LAYOUT.vms_dir, LAYOUT.volumes_dir, LAYOUT.image_dir)


@pytest.fixture
def formatted(bench: Bench) -> Bench:
    bench.run(*FOLDERS)
    for folder in OF_DATA:
        bench.host.put_directory(f"{folder}/lost+found", mode=0o700)
        bench.host.put(f"{folder}/lost+found/#123", "x")
    return bench


def test_it_is_no_vm(formatted: Bench) -> None:
    bridge = Settings.model_validate({"network": {"bridge_name": "vmbr1"}})
    assert formatted.site().vms == ()
    for now in (bridge, Settings.model_validate({"mode": "manager"})):
        assert "NQR-PRE-063" not in {one.code for one in changes.checks(now, Settings(), fit(), formatted.site().vms)}
    formatted.vm()
    assert formatted.site().vms == (f"{LAYOUT.vms_dir}/a",)


def test_it_belongs_to_no_user(formatted: Bench) -> None:
    site = formatted.site()
    assert Belongings(site).spared.of_users(site.receipt.entries) == ()
    assert rollback().outcome == "ok"
    formatted.run(*FOLDERS)
    formatted.vm()
    assert Belongings(formatted.site()).spared.of_users(formatted.receipt.entries) == (f"1 VM in {LAYOUT.vms_dir}",)


def test_it_is_no_other_installation() -> None:
    host = FakeHost.debian12()
    for folder in (LAYOUT.install_dir, paths.STATE_DIR):
        host.put_directory(f"{folder}/lost+found")
    assert run(Settings(), fit(), host, Situation()) == []
    host.put(f"{LAYOUT.install_dir}/lost", "x")
    assert [one.code for one in run(Settings(), fit(), host, Situation())] == ["NQR-PRE-015"]


def test_it_stays_in_the_file_system_of_the_state(bench: Bench) -> None:
    bench.run(*FOLDERS)
    bench.host.put_directory(f"{paths.STATE_DIR}/lost+found")
    bench.host.mount(paths.STATE_DIR)
    forget_state(bench.site())
    assert bench.host.listdir(paths.STATE_DIR) == ["lost+found"]

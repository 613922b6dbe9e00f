"""The service user can put nothing in root's way where root writes by path. nqr corrects a host where it could."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_container_runtime import asked, steps
from tests.unit.installer.verbs.lifecycle import applied, reverted

from nqrust.agent.scopes import launch
from nqrust.agent.settings import Settings
from nqrust.contract import names, paths
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.platform.vm_home import VmHome
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.mode import Mode

LAYOUT = paths.Layout()


@pytest.mark.parametrize(
    ("path", "was", "wanted"),
    [
        (LAYOUT.backups_dir, 0o700, (0o700, "root", "root")),
        (LAYOUT.image_dir, 0o755, (0o1775, "root", names.SERVICE_GROUP)),
    ],
)
def test_folder_of_the_service_user_becomes_owned_by_root(path: str, was: int, wanted: tuple[int, str, str]) -> None:
    (step,) = [
        s for s in steps(asked(False), fit()) if isinstance(s, (Directory, Mode)) and s.path == path and s.mode == wanted[0]
    ]
    host = FakeHost.debian12()
    host.add_group(names.SERVICE_GROUP, 990)
    host.add_user(names.SERVICE_USER, 990, names.SERVICE_GROUP)
    host.put_directory(path, mode=was, owner=names.SERVICE_USER, group=names.SERVICE_GROUP)
    before = host.state()
    _, records = applied(host, step)
    stat = host.stat(path)
    assert stat is not None and (stat.mode, stat.owner, stat.group) == wanted
    reverted(host, records)
    assert host.state() == before


def test_installer_and_agent_agree_on_the_folder_that_vms_users_pass_through() -> None:
    """A second install that closed it left every VM without a console, and so without a start."""
    host = FakeHost.debian12()
    host.put_directory(paths.STATE_DIR)
    home = VmHome(paths.AGENT_STATE_DIR, names.SCOPE_PREFIX)
    applied(host, home)
    launch.prepare(host, Settings())
    assert isinstance(home.inspect(host), Satisfied)

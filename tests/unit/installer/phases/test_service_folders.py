"""The service user can put nothing in root's way where root writes by path. nqr corrects a host where it could."""

from __future__ import annotations

import posixpath
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_container_runtime import asked, steps
from tests.unit.installer.release.test_bundle_use import context
from tests.unit.installer.verbs.lifecycle import applied, reverted

from nqrust.agent.scopes import launch
from nqrust.agent.settings import Settings
from nqrust.contract import names, paths
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.phases.services import our_services
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


def waits(monkeypatch: pytest.MonkeyPatch, links: dict[str, str], **settings: Any) -> dict[str, tuple[str, ...]]:
    """Return the folders whose file systems each service waits for, on a host with these links."""
    host = FakeHost.debian12()
    for link, target in links.items():
        host.put_directory(posixpath.dirname(link))
        host.symlink(target, link)
    monkeypatch.setattr(FakeHost, "debian12", lambda: host)
    return {spec.name.removeprefix("nqrust-"): spec.folders for spec in our_services(context(monkeypatch, **settings))}


def test_a_service_waits_for_the_folders_that_it_needs_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system can be mounted on one of them alone. VMs that exist start without the folder of images."""
    found = waits(monkeypatch, {})
    assert found["agent"] == ("/srv/fc/vms", "/srv/fc/volumes", "/srv/fc/images-cache", paths.STATE_DIR)
    assert found["manager"] == ("/srv/images", paths.STATE_DIR) and found["ui"] == ()


def test_a_service_waits_for_the_file_systems_that_links_lead_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd follows none, and the file system at the end of one may not be there yet."""
    links = {"/srv/fc": "/mnt/a/fc", "/mnt/a/fc": "../b", "/mnt/b/volumes": "/nas/of mine", "/data/images": "images"}
    found = waits(monkeypatch, links, paths={"image_dir": "/data/images"})
    assert found["agent"] == (
        *("/srv/fc/vms", "/mnt/a/fc/vms", "/mnt/b/vms"),
        *("/srv/fc/volumes", "/mnt/a/fc/volumes", "/mnt/b/volumes", "/nas/of mine"),
        *("/srv/fc/images-cache", "/mnt/a/fc/images-cache", "/mnt/b/images-cache", paths.STATE_DIR),
    )
    assert found["manager"] == ("/data/images", paths.STATE_DIR), "a link to itself leads nowhere"

"""Folders of programs, settings, images and VMs, and those on the way: only root may replace them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.image.test_folder import MANIFEST
from tests.unit.installer.phases.a_host import fit

from nqrust.image.errors import ImageError
from nqrust.image.folder import replace
from nqrust.installer.preflight.findings import Severity
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.settings.model import Settings


def settings(**given: Any) -> Settings:
    return Settings.model_validate(given)


@pytest.mark.parametrize(
    "path, mode, owner, says",
    [
        ("/srv/fc", 0o755, "root", None),
        ("/srv/fc", 0o711, "root", None),
        ("/srv", 0o1777, "root", None),
        ("/srv/fc", 0o700, "root", "keeps out the users that VMs run as."),
        ("/srv", 0o750, "root", "keeps out the users that VMs run as."),
        ("/srv/fc/vms", 0o700, "root", "keeps out the users that VMs run as."),
        ("/srv/fc", 0o755, "1000", "belongs to 1000, who could replace the disks of VMs."),
        ("/srv/fc", 0o775, "root", "can be written by other users, who could replace the disks of VMs."),
        ("/srv/fc", 0o757, "root", "can be written by other users, who could replace the disks of VMs."),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_folder_that_users_of_vms_cannot_reach_refuses(path: str, mode: int, owner: str, says: str | None, known: bool) -> None:
    host = FakeHost.debian12()
    host.put_directory(path)
    host.set_mode(path, mode=mode, owner=owner, group="root")
    found = run(Settings(), fit(), host, Situation(known=known))
    assert [(f.code, f.what) for f in found] == (
        [("NQR-PRE-036", f"VMs are kept in /srv/fc/vms, but {path} {says}")] if says else []
    )
    assert all(path in f.cure and f.severity is Severity.error for f in found)
    assert run(settings(mode="manager"), fit(), host, Situation(known=known)) == []


_FOLDERS = {"install_dir": "Programs that root runs", "config_dir": "Settings", "image_dir": "Images", "data_dir": "VMs"}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("folder", _FOLDERS)
@pytest.mark.parametrize(
    "mode, owner, says", [(0o755, "1000", "belongs to 1000"), (0o777, "root", "can be written by other users")]
)
def test_folder_that_another_user_can_replace_refuses(folder: str, mode: int, owner: str, says: str, known: bool) -> None:
    """Programs, settings and images as well as disks."""
    host = FakeHost.debian12()
    host.put_directory("/data/alice", mode=mode, owner=owner)
    host.put_symlink("/data/alice", "/data/link")
    for path in ("/data/alice/a/b", "/data/alice", "/data/link/b"):
        if path == "/data/alice" and folder == "image_dir" and not known:
            continue  # NQR-PRE-033
        (found,) = run(settings(paths={folder: path}), fit(), host, Situation(known=known))
        assert found.code == "NQR-PRE-036" and found.severity is Severity.error
        assert found.what.startswith(f"{_FOLDERS[folder]} are kept in {path}") and f"but /data/alice {says}" in found.what
        assert folder.upper() in found.cure
    host.set_mode("/data/alice", mode=0o755, owner="root", group="root")
    assert run(settings(paths={folder: "/data/link/b"}), fit(), host, Situation(known=known)) == []


@pytest.mark.parametrize("known", [False, True])
def test_image_folder_that_is_another_users_link_refuses(known: bool) -> None:
    """A sticky folder keeps others from replacing the link, and its owner may."""
    host = FakeHost.debian12()
    host.put_directory("/data", mode=0o1777)
    host.put_directory("/real")
    host.put_symlink("/real", "/data/images")
    host.set_mode("/data/images", mode=0o777, owner="1000", group="root")
    (found,) = run(settings(paths={"image_dir": "/data/images"}), fit(), host, Situation(known=known))
    assert found.code == "NQR-PRE-036" and found.cure.endswith("(chown -h root /data/images).")
    assert "but /data/images belongs to 1000, who could replace them" in found.what
    host.set_mode("/data/images", mode=0o777, owner="root", group="root")
    assert run(settings(paths={"image_dir": "/data/images"}), fit(), host, Situation(known=known)) == []


@pytest.mark.parametrize(
    ("known", "mode", "code"),
    [(False, "production", "NQR-PRE-033"), (True, "production", "NQR-PRE-036"), (False, "agent", "NQR-PRE-036")],
)
def test_image_folder_is_checked_on_every_host(known: bool, mode: str, code: str) -> None:
    host = FakeHost.debian12()
    host.put_directory("/srv/images", mode=0o777)
    (found,) = [one for one in run(settings(mode=mode), fit(), host, Situation(known=known)) if "/srv/images" in one.what]
    assert (found.code, found.severity) == (code, Severity.error)
    host.set_mode("/srv/images", mode=0o1775, owner="root", group="root" if code == "NQR-PRE-033" else "100")
    assert not [one for one in run(settings(mode=mode), fit(), host, Situation(known=known)) if "/srv/images" in one.what]


@pytest.mark.parametrize("folder", [*_FOLDERS, "above"])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("mode", "owner", "group"),
    [(m, o, g) for m in (0o755, 0o775, 0o2775, 0o1775, 0o757, 0o777, 0o1777) for o in ("root", "1000") for g in ("root", "100")],
)
def test_the_builder_of_images_and_preflight_agree(folder: str, known: bool, mode: int, owner: str, group: str) -> None:
    host = FakeHost.debian12()
    host.put_directory("/data", mode=mode, owner=owner, group=group)
    place = {"image_dir": "/data/a"} if folder == "above" else {folder: "/data"}
    found = [one.code for one in run(settings(paths=place), fit(), host, Situation(known=known))]
    if folder == "image_dir" and not known:
        return  # the manager's group takes it over, so that rule is stricter
    try:
        replace(host, "/data/tiny", lambda place: MANIFEST)
    except ImageError:
        assert found == ["NQR-PRE-036"]
    else:
        assert found == []

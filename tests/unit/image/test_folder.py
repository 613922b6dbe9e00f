"""Root builds images by path, in a folder that the service user can write to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.fakes.host import FakeHost

from nqrust.contract.images import ImageManifest
from nqrust.image import folder
from nqrust.image.errors import ImageError

BLOB = {"file": "rootfs.ext4", "size": 1, "sha256": "0" * 64}
MANIFEST = ImageManifest.model_validate(
    {"name": "tiny", "rootfs": BLOB, "kernel": BLOB, "created_at": "2026-01-01T00:00:00Z"},
)


@pytest.mark.parametrize(
    ("mode", "owner", "group", "refused"),
    [
        (0o755, "root", "root", False),
        (0o2775, "root", "root", True),
        (0o1775, "root", "100", False),
        (0o775, "root", "100", True),
        (0o777, "root", "root", True),
        (0o1775, "100", "100", True),
        (0o755, "100", "root", True),
    ],
)
def test_build_refuses_a_folder_that_other_users_can_write(mode: int, owner: str, group: str, refused: bool) -> None:
    host = FakeHost.debian12()
    host.put_directory("/srv/images", mode=mode, owner=owner, group=group)
    host.put("/srv/images/tiny/image.json", "former")
    if not refused:
        assert folder.replace(host, "/srv/images/tiny", lambda place: MANIFEST) is MANIFEST
        return
    before = host.state()
    with pytest.raises(ImageError) as caught:
        folder.replace(host, "/srv/images/tiny", lambda place: MANIFEST)
    assert caught.value.code == "NQR-IMG-023" and host.state() == before


@pytest.mark.parametrize(
    ("way", "names"),
    [
        (lambda host: host.put_directory("/home/u", owner="100"), "/home/u"),
        (lambda host: host.put_symlink("/srv", "/home/u"), None),
        (lambda host: (host.put_directory("/home/mine"), host.put_symlink("/home/mine", "/tmp/u")), "/tmp/u"),
        (lambda host: host.put_directory("/home/u", mode=0o777), "/home/u"),
    ],
    ids=["another user's", "root's link", "another user's link", "everybody's"],
)
def test_build_refuses_a_way_that_another_user_can_lead_elsewhere(way: Callable[[FakeHost], object], names: str | None) -> None:
    host = FakeHost.debian12()
    host.put_directory("/tmp", mode=0o1777)
    way(host)
    place = "/tmp/u" if names == "/tmp/u" else "/home/u"
    if names == "/tmp/u":
        host.set_mode("/tmp/u", mode=0o777, owner="100", group="100")
    host.mkdir(f"{place}/images")
    if names is None:
        assert folder.replace(host, f"{place}/images/tiny", lambda place: MANIFEST) is MANIFEST
        return
    with pytest.raises(ImageError, match=f"Other users can rename files in {names}, so") as caught:
        folder.replace(host, f"{place}/images/tiny", lambda place: MANIFEST)
    assert caught.value.code == "NQR-IMG-023" and not host.listdir(f"{place}/images")


@pytest.mark.parametrize(("euid", "mode"), [(0, 0o755), (100, 0o750)])
def test_others_cannot_read_an_image_that_the_manager_made(euid: int, mode: int) -> None:
    """It may be of a private registry. An image that root built is the manager's to read, too."""
    host = FakeHost.debian12()
    host.put_directory("/srv/images", mode=0o1775, owner="root", group="root")
    host._euid = euid
    folder.replace(host, "/srv/images/mine", lambda place: MANIFEST)
    found = host.stat("/srv/images/mine")
    assert found is not None and found.mode == mode

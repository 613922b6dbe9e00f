"""The agent runs as root. It copies from a folder into which the manager's user puts files."""

from __future__ import annotations

import hashlib

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent.disks import disks
from nqrust.agent.disks.blobs import Blobs
from nqrust.agent.errors import Failed
from nqrust.contract.images import Blob
from nqrust.host.errors import HostError, NoSpace
from nqrust.host.port import DiskUsage, Stat

OWN, SECRET = "/srv/images/mine/vmlinuz", "root:secret"


def never(image: str, blob: Blob, path: str) -> None:
    raise AssertionError("fetched")


class Swapping(FakeHost):
    """Replace the image's file with a link after its check. `seen`: modes of the copy during the check."""

    def sha256(self, path: str, *, seen: Stat | None = None) -> str:
        found = super().sha256(path, seen=seen)
        if path == OWN and self.swaps:
            self.remove(OWN)
            self.put_symlink("/etc/secret", OWN)
        stat = self.stat(path)
        if stat is not None and path.endswith(".part"):
            self.seen.append(stat.mode)
        return found

    swaps = False
    seen: list[int]


@pytest.mark.parametrize("swaps", [False, True])
def test_what_does_not_fit_is_never_readable_for_others(swaps: bool) -> None:
    host = Swapping.debian12()
    assert isinstance(host, Swapping)
    host.swaps, host.seen = swaps, []
    content = b"k" * len(SECRET)
    blob = Blob(file="vmlinuz", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    host.put(OWN, content)
    host.put("/etc/secret", SECRET, mode=0o600)
    host.put_directory("/srv/fc")
    blobs = Blobs(host, "/srv/images", "/srv/fc/images-cache", never)
    if swaps:
        with pytest.raises(Failed):
            blobs.cached("mine", blob)
        assert host.listdir("/srv/fc/images-cache") == []
    else:
        stat = host.stat(blobs.cached("mine", blob))
        assert stat is not None and stat.mode == 0o644
    assert host.seen == [0o600] * (not swaps)


def test_a_disk_is_copied_from_the_file_that_was_checked() -> None:
    """The manager's user may put another file, or a link to one of root's, at the path in between."""
    host = FakeHost.debian12()
    content = b"k" * len(SECRET)
    blob = Blob(file="vmlinuz", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    host.put(OWN, content)
    host.put("/etc/secret", SECRET, mode=0o600)
    host.put_directory("/srv/fc/vms/a")
    for number in (1, 2):
        host.add_user(f"vm{number}", number)
    with Blobs(host, "/srv/images", "/srv/fc/images-cache", never).readable("mine", blob) as found:
        pass
    assert found.path == OWN
    given = {"image": found.path, "disk": "/srv/fc/vms/a/disk.ext4", "user": 1, "maker": 1, "size_mib": 1, "seen": found.seen}
    disks.stage(host, **given).drop()
    host.remove(OWN)
    host.put_symlink("/etc/secret", OWN)
    with pytest.raises(HostError):
        disks.stage(host, **given)
    assert host.listdir("/srv/fc/vms/a") == []


def test_a_vmm_reads_kernels_and_nobody_but_root_reads_root_file_systems() -> None:
    host = FakeHost.debian12()
    content = b"of a private image"
    blob = Blob(file="rootfs.ext4", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    host.put_directory("/srv/fc")

    def fetch(image: str, blob: Blob, path: str) -> None:
        host.put(path, content)

    blobs = Blobs(host, "/srv/images", "/srv/fc/images-cache", fetch)

    def readable() -> str:
        with blobs.readable("mine", blob) as verified:
            return verified.path

    for read, mode in ((readable, 0o600), (lambda: blobs.cached("mine", blob), 0o644)) * 2:
        stat = host.stat(read())
        assert stat is not None and stat.mode == mode


def test_an_image_that_does_not_fit_on_a_host_is_not_begun() -> None:
    """The disk would be full for all VMs of the host until the download fails."""
    host = FakeHost.debian12()
    host.put_directory("/srv/fc")
    host.usage = DiskUsage(100 << 30, 1 << 30, 1000, False)
    blobs = Blobs(host, "/srv/images", "/srv/fc/images-cache", never)
    large = Blob(file="rootfs.ext4", size=600 << 20, sha256="0" * 64)
    with pytest.raises(NoSpace, match="512 MiB must stay free"), blobs.readable("mine", large):
        pass


def test_what_is_no_file_of_an_image_keeps_nobody_from_a_delete() -> None:
    """A file system of its own has the folder `lost+found`, and a folder may have the name of a file."""
    host = FakeHost.debian12()
    cache, unneeded = "/srv/fc/images-cache", "f" * 64
    for name in ("lost+found", "0" * 64):
        host.put_directory(f"{cache}/{name}")
    for name in (unneeded, f"{unneeded}.part", f".{unneeded}.part.nqr-new", "notes.txt"):
        host.put(f"{cache}/{name}", b"content")
    Blobs(host, "/srv/images", cache, never).forget()
    assert host.listdir(cache) == ["0" * 64, "lost+found", "notes.txt"]

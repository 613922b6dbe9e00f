"""Files of images for several VMs at once: a download holds up only the VMs that need its file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent.disks.blobs import Blobs
from nqrust.agent.errors import Failed
from nqrust.contract.agent import ImageRef
from nqrust.contract.images import Blob
from nqrust.host.errors import NoSpace
from nqrust.host.port import DiskUsage

CACHE = "/srv/fc/images-cache"
ROOTFS, OTHER, KERNEL = b"root file system", b"another", b"kernel"


def blob(content: bytes, size: int = 0) -> Blob:
    return Blob(file="file", size=size or len(content), sha256=hashlib.sha256(content).hexdigest())


class Manager:
    """`slow`: content whose download waits until `goes_on`."""

    def __init__(self) -> None:
        self.host = FakeHost.debian12()
        self.host.put_directory("/srv/fc")
        self.contents = {blob(content).sha256: content for content in (ROOTFS, OTHER, KERNEL)}
        self.slow: set[bytes] = set()
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.fetched: list[bytes] = []
        self.images: list[ImageRef] | None = []
        self.blobs = Blobs(self.host, "/srv/images", CACHE, self.fetch, lambda: self.images)

    def fetch(self, image: str, wanted: Blob, path: str) -> None:
        content = self.contents[wanted.sha256]
        self.host.put(path, content[:3])
        if content in self.slow:
            self.begun.set()
            assert self.goes_on.wait(10)
        self.fetched.append(content)
        self.host.put(path, content)

    def read(self, content: bytes, size: int = 0) -> str:
        with self.blobs.readable("big", blob(content, size)) as verified:
            return verified.path

    @contextmanager
    def downloading(self, content: bytes, times: int = 1, size: int = 0) -> Iterator[None]:
        """Downloads are under way in other threads; they end with the block."""
        self.slow.add(content)
        with ThreadPoolExecutor(times) as pool:
            reads = [pool.submit(self.read, content, size) for _ in range(times)]
            try:
                assert self.begun.wait(10)
                yield
            finally:
                self.goes_on.set()
        for read in reads:
            assert size or read.result() == f"{CACHE}/{blob(content).sha256}"

    def cached(self) -> set[bytes]:
        return {content for sha256, content in self.contents.items() if sha256 in self.host.listdir(CACHE)}


@pytest.fixture
def manager() -> Manager:
    return Manager()


def test_a_download_holds_up_no_other_vm(manager: Manager) -> None:
    beside = f"{CACHE}/.{blob(ROOTFS).sha256}.part.nqr-new"  # of a copy of the host's own file
    with manager.downloading(ROOTFS, times=3):
        manager.host.put(beside, b"half")
        manager.blobs.cached("tiny", blob(KERNEL))
        manager.blobs.forget()
        assert manager.cached() == set(), "no VM needs the kernel"
        assert manager.host.exists(f"{CACHE}/{blob(ROOTFS).sha256}.part") and manager.host.exists(beside)
        assert manager.read(OTHER)
    assert sorted(manager.fetched) == sorted([ROOTFS, OTHER, KERNEL]), "one download for the three VMs that wait for it"
    manager.blobs.forget()
    assert not manager.host.exists(beside)


def test_a_file_that_is_being_copied_stays(manager: Manager) -> None:
    with manager.blobs.readable("big", blob(ROOTFS)) as verified:
        manager.blobs.forget()
        assert manager.host.exists(verified.path)
    manager.blobs.forget()
    assert not manager.host.exists(verified.path)


def test_what_an_agent_that_ended_left_goes(manager: Manager) -> None:
    manager.host.put(f"{CACHE}/{blob(ROOTFS).sha256}.part", b"half")
    manager.blobs.forget()
    assert manager.host.listdir(CACHE) == []


def usage(mib: int) -> DiskUsage:
    return DiskUsage(100 << 30, mib << 20, 1000, False)


def test_a_root_file_system_stays_while_a_vm_has_its_image_and_the_reserve_is_free(manager: Manager) -> None:
    manager.images = [ImageRef(name="big", rootfs=blob(ROOTFS), kernel=blob(KERNEL))]
    manager.read(ROOTFS)
    manager.read(OTHER)
    manager.blobs.cached("big", blob(KERNEL))
    manager.host.usage = usage(513)
    manager.blobs.make_room()
    assert manager.cached() == {ROOTFS, OTHER, KERNEL}
    manager.blobs.forget()
    assert manager.cached() == {ROOTFS, KERNEL}
    manager.host.usage = usage(511)
    manager.blobs.make_room()
    assert manager.cached() == {KERNEL}, "without it, a VM cannot start again"
    manager.images = []
    manager.blobs.forget()
    assert manager.cached() == set()


def test_only_kernels_stay_on_a_full_disk_while_a_record_cannot_be_read(manager: Manager) -> None:
    manager.images = None
    manager.read(ROOTFS)
    manager.blobs.cached("big", blob(KERNEL))
    manager.host.usage = usage(513)
    manager.blobs.forget()
    assert manager.cached() == {ROOTFS, KERNEL}
    with manager.blobs.readable("big", blob(OTHER)):
        manager.host.usage = usage(511)
        manager.blobs.make_room()
        assert manager.cached() == {OTHER, KERNEL}, "nor does what is being copied go"
    manager.host.put(f"{CACHE}/{blob(ROOTFS).sha256}.part", b"of an agent that ended", mode=0o644)
    manager.blobs.make_room()
    assert manager.host.listdir(CACHE) == [blob(KERNEL).sha256]


def test_a_root_file_system_makes_way_for_the_one_that_is_wanted(manager: Manager) -> None:
    manager.images = [ImageRef(name="big", rootfs=blob(ROOTFS), kernel=blob(KERNEL))]
    manager.read(ROOTFS)
    manager.host.usage = usage(600)
    with pytest.raises(NoSpace):
        manager.read(OTHER, 200 << 20)
    assert manager.cached() == set()


def test_two_downloads_do_not_take_the_same_room(manager: Manager) -> None:
    manager.host.usage = usage(900)
    told = "file of image big of 200 MiB does not fit"
    with manager.downloading(ROOTFS, size=300 << 20), pytest.raises(NoSpace, match=told):
        manager.read(OTHER, 200 << 20)
    with pytest.raises(Failed):  # there is room, and the content is too short
        manager.read(OTHER, 200 << 20)

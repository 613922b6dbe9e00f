"""A newer version of an image changes no VM that has its disk: kernel and modules belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nqrust.contract.agent import ImageRef
from nqrust.contract.vms import StopRequest

from .conftest import VM, Bench, blob

OTHER = "7d0c2b1e-92a1-4c7e-8f3a-2b6f5a1c9d10"


def newer(bench: Bench, content: bytes = b"newer kernel", **changes: object) -> ImageRef:
    """Put a newer version in the place of the image, as an import does."""
    kernel = bench.root / "images" / "tiny" / "vmlinuz"
    kernel.unlink()
    kernel.write_bytes(content)
    return bench.image.model_copy(update={"kernel": blob(kernel), **changes})


def boots(bench: Bench, vm_id: str = VM) -> ImageRef:
    record = bench.service.store.read(vm_id)
    assert record is not None
    cached = bench.root / "fc" / "images-cache" / record.image.kernel.sha256
    assert blob(cached).sha256 == record.image.kernel.sha256, "the kernel that the VM starts with"
    return record.image


@pytest.mark.parametrize("started", [True, False], ids=["ran before", "was only made"])
def test_a_vm_keeps_the_kernel_of_the_image_that_its_disk_was_made_of(bench: Bench, started: bool) -> None:
    bench.service.put(bench.spec(run=started))
    bench.service.stop(VM, StopRequest(force=True))
    image = newer(bench, root_device="/dev/vda1", cmdline="quiet")
    bench.service.put(bench.spec(image=image, guest_token="token-2"))
    assert boots(bench) == bench.image, "of its record, with the command line and the root device"
    bench.service.put(bench.spec(image=image, generation=2))
    assert boots(bench) == bench.image, "nor does a change of a running VM"


def test_the_kernel_of_a_vm_stays_while_newer_vms_come_and_go(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.service.stop(VM, StopRequest())
    image = newer(bench)
    bench.service.put(bench.spec(OTHER, name="web2", ip="10.0.0.21", image=image))
    assert boots(bench, OTHER) == image
    bench.service.delete(OTHER)
    bench.service.put(bench.spec(image=image))
    assert boots(bench) == bench.image
    assert [path.name for path in (bench.root / "fc" / "images-cache").iterdir()] == [bench.image.kernel.sha256]


def test_a_vm_of_an_earlier_agent_keeps_its_kernel_without_the_one_for_firecracker(bench: Bench) -> None:
    bench.vmm.capabilities = replace(bench.vmm.capabilities, elf_kernel=False)
    elf = bench.root / "images" / "tiny" / "vmlinux"
    elf.write_bytes(b"elf kernel")
    bench.image = bench.image.model_copy(update={"kernel_elf": blob(elf)})
    bench.service.put(bench.spec())
    bench.service.stop(VM, StopRequest())
    (bench.root / "fc" / "images-cache" / blob(elf).sha256).unlink()
    elf.write_bytes(b"newer elf kernel")
    image = newer(bench, kernel_elf=blob(elf))
    bench.service.put(bench.spec(image=image))
    assert boots(bench) == bench.image
    bench.service.stop(VM, StopRequest())
    bench.vmm.capabilities = replace(bench.vmm.capabilities, elf_kernel=True)
    bench.service.put(bench.spec(image=image))
    assert boots(bench).kernel_elf == image.kernel_elf, "one that the host can get"


def test_a_record_that_cannot_be_read_keeps_the_kernels(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.service.stop(VM, StopRequest())
    image = newer(bench)
    bench.service.put(bench.spec(OTHER, name="web2", ip="10.0.0.21", image=image))
    record = bench.vm_dir() / "vm.json"
    content = record.read_text()
    record.write_text("{")
    bench.service.delete(OTHER)
    record.write_text(content)
    bench.service.put(bench.spec(image=image))
    assert boots(bench) == bench.image


def test_a_disk_that_is_made_anew_is_of_the_newer_version(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.service.stop(VM, StopRequest())
    image = newer(bench)
    (bench.vm_dir() / "disk.ext4").unlink()
    bench.service.put(bench.spec(image=image))
    assert boots(bench) == image


def test_a_vm_whose_kernel_is_gone_from_everywhere_starts_with_the_newer_one(bench: Bench) -> None:
    """Its disk comes from a backup without the cache, or an earlier version made it and never started it."""
    bench.service.put(bench.spec())
    bench.service.stop(VM, StopRequest())
    image = newer(bench, root_device="/dev/vda1", rootfs_type="xfs")
    for path in Path(bench.root, "fc", "images-cache").iterdir():
        path.unlink()
    kept = bench.image.model_copy(update={"kernel": image.kernel})
    bench.service.put(bench.spec(image=image))
    assert boots(bench) == kept, "the rest is as its disk is"
    bench.service.stop(VM, StopRequest())
    bench.service.put(bench.spec(image=newer(bench, b"still newer kernel")))
    assert boots(bench) == kept

"""Runs in network and mount namespaces, started by tests/live/agent/test_mounted_disks_live.py: VMs from XFS and Btrfs images.

    vms_from_mounted_disks.py IMAGE_FOLDER WORK_FOLDER KIND...     prints one JSON object: kind -> what the guest reported

The images are made of `tiny`: its files in another file system, the drivers of that appended to its initrd.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.live.agent import mounted_images as images
from tests.live.agent.conftest import blob
from tests.machine_scripts.vms_on_a_bridge import A, B, Site, guest, up

from nqrust.host.local import LocalHost
from nqrust.image import cpio, initrd
from nqrust.image.kernel_sources.registry import source_for
from nqrust.image.progress import silent


def with_drivers(plain: Path, target: Path, scratch: Path, kind: str) -> None:
    """Archives that are joined are unpacked one after the other: initramfs buffer format."""
    host = LocalHost()
    scratch.mkdir()
    files = source_for(host)(host, str(scratch), "/var/tmp/nqrust-test-packages", silent)
    drivers = initrd.drivers(host, files, (kind,), ())
    more = cpio.archive([cpio.file(f"modules/{90 + at}-{driver.name}.ko", driver.data) for at, driver in enumerate(drivers)])
    target.write_bytes(plain.read_bytes() + more)


def make(site: Site, tiny: Path, kind: str) -> dict[str, Any]:
    """What an ImageRef says of an image `tiny-KIND`, which is made."""
    folder = site.work / "images" / f"tiny-{kind}"
    folder.mkdir()
    tree = images.contents("ext4", tiny / site.manifest.rootfs.file, site.work / f"tree-{kind}")
    assert site.manifest.initrd is not None
    with_drivers(tiny / site.manifest.initrd.file, folder / "initrd", site.work / f"kernel-{kind}", kind)
    shutil.copy(tiny / site.manifest.kernel.file, folder / "vmlinuz")
    rootfs = images.make(kind, folder / f"rootfs.{kind}", tree)
    return {
        "name": f"tiny-{kind}",
        "rootfs": blob(rootfs),
        "rootfs_type": kind,
        "kernel": blob(folder / "vmlinuz"),
        "initrd": blob(folder / "initrd"),
        "kernel_elf": None,
    }


async def scenario(site: Site, tiny: Path, kinds: list[str]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    made = {kind: make(site, tiny, kind) for kind in kinds}
    site.start_agent()
    await up(site)
    async with site.client() as client:
        for number, (kind, vm_id) in enumerate(zip(kinds, (A, B), strict=False)):
            spec = site.spec(vm_id, f"on-{kind}", f"10.0.0.2{number}", disk_mib=600, memory_mib=256)
            spec = spec.model_copy(update={"image": spec.image.model_copy(update=made[kind])})
            await client.put_vm(spec)
            found = await guest(client, vm_id)
            seen[kind] = {**found.model_dump(mode="json"), "console": await client.console_log(vm_id)}
            await client.delete_vm(vm_id)
    return seen


def main() -> None:
    tiny, work, kinds = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    site = Site(tiny, work)
    helper = images.install(work / "installed")
    (helper.path.parent / "data-dir").write_text(f"{work}/fc\n")
    site.env["AGENT_HELPER"] = str(helper.path)
    try:
        site.network()
        print(json.dumps(asyncio.run(scenario(site, tiny, kinds))))
    finally:
        site.close()


if __name__ == "__main__":
    main()

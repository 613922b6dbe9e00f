"""Image `tiny`: a fast-booting guest, built on the host from distribution packages without loop mounts.

It contains busybox, the guest agent, DHCP on eth0 and a login on the serial console. Root has no password and can log in on
ttyS0 only; no service in the guest accepts logins. It stops cleanly on the ACPI power button (QMP `system_powerdown`), on
Ctrl-Alt-Del (Firecracker `SendCtrlAltDel`) and on `poweroff` and `reboot` from its shell.
"""

from __future__ import annotations

from pydantic import ValidationError

from nqrust.contract.images import MANIFEST, ImageManifest
from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.image import folder, rootfs
from nqrust.image.kernel_sources.registry import source_for
from nqrust.image.progress import Progress, silent


def build(
    host: Host,
    *,
    target_dir: str,
    guest_agent: str,
    cache_dir: str,
    name: str = "tiny",
    progress: Progress | None = None,
) -> ImageManifest:
    """Build the image in `target_dir` (its own folder, such as /srv/images/tiny; its parent must exist).

    `guest_agent`: path of the static binary. `cache_dir`: keeps packages for later builds. The build runs in a folder beside the
    target and writes the manifest last. A rename then replaces any existing image, so the target never contains a half-built one.
    Raises ImageError, HostError.
    """
    tell = progress or silent
    folder.check_guest_agent(host, guest_agent)

    def fill(place: str) -> ImageManifest:
        scratch = f"{place}/scratch"
        host.mkdir(scratch, mode=0o700)
        tell("fetching the guest kernel", 0.0)
        files = source_for(host)(host, scratch, cache_dir, tell)
        folder.add_kernel(host, place, files, tell)
        tell("making the root file system", 0.8)
        rootfs.populate(host, f"{scratch}/root", busybox=files.busybox, guest_agent=guest_agent)
        rootfs.make_ext4(host, f"{scratch}/root", f"{place}/{folder.ROOTFS}")
        host.set_mode(f"{place}/{folder.ROOTFS}", mode=0o644, owner="root", group="root")
        host.remove_tree(scratch)
        return folder.finish(
            host,
            place,
            name=name,
            description=f"Minimal guest: busybox, guest agent, serial console (Linux {files.version})",
            min_memory_mib=96,
            min_disk_mib=rootfs.SIZE_MIB,
            tell=tell,
        )

    manifest = folder.replace(host, target_dir, fill)
    tell(f"image {name} is ready", 1.0)
    return manifest


def inspect(host: Host, target_dir: str, *, deep: bool = False) -> ImageManifest | None:
    """Return the manifest of the image in a folder if it is complete, or None if it is missing or damaged.

    Checks every file's size, and with `deep` its sha256.
    """
    try:
        manifest = ImageManifest.model_validate_json(host.read_bytes(f"{target_dir}/{MANIFEST}"))
        for blob in (manifest.rootfs, manifest.kernel, manifest.kernel_elf, manifest.initrd):
            if blob is None:
                continue
            stat = host.stat(f"{target_dir}/{blob.file}")
            if stat is None or stat.size != blob.size:
                return None
            if deep and host.sha256(f"{target_dir}/{blob.file}") != blob.sha256:
                return None
    except (HostError, ValidationError):
        return None
    return manifest

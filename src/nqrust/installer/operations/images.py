"""Images in a host's image folder that its agent cannot use for a VM, reported before a user requests one."""

from __future__ import annotations

from pydantic import ValidationError

from nqrust.contract.images import MANIFEST, MOUNTING_NEEDS, ImageManifest
from nqrust.host.errors import HostError
from nqrust.host.port import Host

_LARGEST = 256 * 1024


def unusable(host: Host, image_dir: str, *, has_agent: bool) -> tuple[str, ...]:
    """Return a sentence for each image whose file system needs mounting but whose mount programs are missing.

    Does not check kernel support for the file system, because the kernel may load a module for it.
    """
    if not has_agent:
        return ()
    told = []
    for path in host.glob(f"{image_dir}/*/{MANIFEST}"):
        try:
            manifest = ImageManifest.model_validate_json(host.read_bytes(path, _LARGEST))
        except (HostError, ValidationError):
            continue  # the image registry reports it
        package, programs = MOUNTING_NEEDS.get(manifest.rootfs_type, ("", ()))
        missing = [program for program in programs if host.which(program) is None]
        if missing:
            told.append(
                f"No VM can be made from image {manifest.name} here ({manifest.rootfs_type}): {' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not installed; install {package}."
            )
    return tuple(told)

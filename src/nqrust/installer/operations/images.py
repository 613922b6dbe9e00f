"""Images in the image folder of a host from which its agent could make no VM, told before one is asked for."""

from __future__ import annotations

from pydantic import ValidationError

from nqrust.contract.images import MANIFEST, MOUNTING_NEEDS, ImageManifest
from nqrust.host.errors import HostError
from nqrust.host.port import Host

_LARGEST = 256 * 1024


def unusable(host: Host, image_dir: str, *, has_agent: bool) -> tuple[str, ...]:
    """A sentence for each image whose file system has to be mounted and cannot be, for want of programs.

    Whether the kernel knows the type is not asked: it may load a module for it."""
    if not has_agent:
        return ()
    told = []
    for path in host.glob(f"{image_dir}/*/{MANIFEST}"):
        try:
            manifest = ImageManifest.model_validate_json(host.read_bytes(path, _LARGEST))
        except (HostError, ValidationError):
            continue  # the registry tells of it
        package, programs = MOUNTING_NEEDS.get(manifest.rootfs_type, ("", ()))
        missing = [program for program in programs if host.which(program) is None]
        if missing:
            told.append(
                f"No VM can be made from image {manifest.name} here ({manifest.rootfs_type}): {' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not installed; install {package}."
            )
    return tuple(told)

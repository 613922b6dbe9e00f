"""Builds an image from an OCI layout, in a process of its own: what unpacks the layers of others has bounded memory and no
secrets of the manager in it.

Standard input: an `Order`. Standard output: lines of JSON, each a `Told`; the last one has an error or the manifest.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys

from pydantic import BaseModel

from nqrust.contract.images import ImageManifest
from nqrust.host.errors import HostError
from nqrust.host.memory import OOM_SCORE
from nqrust.host.own_files import OwnFiles
from nqrust.image.errors import ImageError
from nqrust.image.oci.build import Base, build

_MEMORY = 3 * 2**30
_FILE = 2**40


class Order(BaseModel):
    """Arguments of `build.build`. `base`, `base_manifest`, `guest_agent`: of its Base."""

    source: str
    scratch: str
    target_dir: str
    name: str
    origin: str
    base: str
    base_manifest: ImageManifest
    guest_agent: str


class Told(BaseModel):
    """Progress, or the end: `manifest`, or `code`, `what` and `cure` of an error."""

    step: str = ""
    fraction: float | None = None
    manifest: ImageManifest | None = None
    code: str = ""
    what: str = ""
    cure: str = ""


def _tell(told: Told) -> None:
    sys.stdout.write(told.model_dump_json(exclude_defaults=True) + "\n")
    sys.stdout.flush()


def main() -> None:
    with contextlib.suppress(PermissionError):  # the manager's unit allows no change of priorities (SystemCallFilter=)
        os.nice(5)
    with contextlib.suppress(OSError), open(OOM_SCORE, "w", encoding="ascii") as file:
        file.write("1000")  # without memory the kernel ends this process, and no VM: proc(5)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    try:
        _tell(Told(manifest=_build(Order.model_validate_json(sys.stdin.buffer.read()))))
    except ImageError as error:
        _tell(Told(code=error.code, what=error.what, cure=error.cure))


def _build(order: Order) -> ImageManifest:
    try:
        return build(
            OwnFiles(),
            source=order.source,
            scratch=order.scratch,
            target_dir=order.target_dir,
            name=order.name,
            origin=order.origin,
            base=Base(order.base, order.base_manifest, order.guest_agent),
            tell=lambda step, fraction: _tell(Told(step=step, fraction=fraction)),
        )
    except MemoryError as error:
        raise ImageError(
            "NQR-IMG-042", "The container image needs too much memory to be unpacked.", "Use an image with fewer files."
        ) from error
    except (HostError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(
            "NQR-IMG-042",
            f"The image could not be written: {why}.",
            "Check the free space of the image folder, then pull again.",
        ) from error


if __name__ == "__main__":
    main()

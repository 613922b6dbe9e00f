"""An ext4 that mke2fs(8) makes from a folder, `-d`. The same files give the same bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image import fixed_times
from nqrust.image.errors import ImageError

# Explicit, so that the host's mke2fs.conf has no effect and older kernels and tools can read the result.
FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)


@dataclass(frozen=True)
class Ids:
    """Of an image, and fixed. Each VM has only one such file system, so they never clash."""

    uuid: str
    hash_seed: str


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Raise ImageError NQR-IMG-006 for a HostError of the block."""
    try:
        yield
    except HostError as error:
        raise ImageError(
            "NQR-IMG-006",
            f"The guest's file system could not be made: {error}.",
            "Install e2fsprogs 1.43 or newer and check the free space, then run again.",
        ) from error


def make(host: Host, root: str, target: str, size_mib: int, ids: Ids, *, journal_mib: int, inodes: tuple[str, str]) -> None:
    """Create `target` with the folder `root`. `inodes`: mke2fs's option for their number. Raises ImageError NQR-IMG-006."""
    extended = f"hash_seed={ids.hash_seed},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,nodiscard"
    with failures():
        fixed_times.touch(host, root)
        host.run(
            command(
                "mke2fs", "-q", "-F", "-t", "ext4", "-O", FEATURES, "-b", "4096", "-I", "256", *inodes, "-m", "0",
                "-J", f"size={journal_mib}", "-L", "root", "-U", ids.uuid, "-M", "/", "-E", extended,
                "-d", root, target, f"{size_mib}M", env=fixed_times.VARIABLES, timeout=600,
            )
        )  # fmt: skip
        fixed_times.settle(host, root, target)

"""The kernel modules that an initrd needs, in load order.

A .deb has no `modules.dep` (depmod writes it at installation), so dependencies are read from the modules: each names them in
its `.modinfo` section as `depends=a,b` (modinfo(8)).
"""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")


@dataclass(frozen=True)
class Module:
    """A module to load: name with underscores, content uncompressed."""

    name: str
    data: bytes


def module_name(path: str) -> str:
    """`/x/virtio-rng.ko.xz` -> `virtio_rng`: file names may use either sign, the kernel uses only the underscore."""
    base = path.rsplit("/", 1)[-1]
    return base.split(".ko", 1)[0].replace("-", "_")


def depends(data: bytes) -> tuple[str, ...]:
    """Return the names of modules that must be loaded before this one."""
    found = re.search(rb"(?:^|\0)depends=([^\0]*)\0", data)
    if not found or not found.group(1):
        return ()
    return tuple(name.decode().replace("-", "_") for name in found.group(1).split(b",") if name)


def unpack(path: str, data: bytes) -> bytes:
    """Return the content of a module file. Raises ValueError for an unsupported compression."""
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".gz"):
        return gzip.decompress(data)
    if path.endswith(".zst"):
        raise ValueError("zstd")
    return data


def builtin_names(text: str) -> frozenset[str]:
    """Names in a kernel's `modules.builtin`."""
    return frozenset(module_name(line.strip()) for line in text.splitlines() if line.strip())


def closure(
    wanted: Iterable[str], files: Mapping[str, str], builtin: frozenset[str], read: Callable[[str], bytes]
) -> tuple[list[Module], list[str]]:
    """Return modules in load order, dependencies first, and the wanted names that this kernel lacks.

    `files` maps names to paths, `read` returns a module's uncompressed content. A missing dependency counts against the wanted
    module. Real kernels have no cycles; one is broken.
    """
    loaded: dict[str, Module] = {}
    visiting: set[str] = set()

    def visit(name: str) -> bool:
        if name in loaded or name in builtin or name in visiting:
            return True
        if name not in files:
            return False
        visiting.add(name)
        data = read(files[name])
        if not all(visit(dependency) for dependency in depends(data)):
            return False
        loaded[name] = Module(name, data)
        return True

    missing = [name for name in wanted if not visit(name)]
    return list(loaded.values()), missing

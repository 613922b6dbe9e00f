"""The list of a bundle's files. It is the first file of the bundle, and all others follow in its order.

    # product: nqrust-microvm
    # version: 0.5.0
    # architecture: x86_64
    # for: debian-12
    # python: 3.11
    # size: 251658240
    7d0f…  release/release.json
    …

The form is that of a signed list (`signed_list`), with three lines more. `size` is the sum of all files, in bytes: a reader takes no
more than that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nqrust.contract.names import PRODUCT
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import signed_list
from nqrust.installer.release.bundled import DESCRIPTOR
from nqrust.installer.settings.model import BUNDLE_ENDING

LIST = "checksums.txt"
FOLDERS = ("release", "python", "wheels", "compiled", "kernel", "firecracker", "packages", "images")
"""Folders of a bundle, in their order. The bootstrap reads no further than `wheels`."""
FIRST = f"release/{DESCRIPTOR}"
COMPILED = "compiled/modules.tar"
"""The compiled modules of all environments. Their packages have one version each, because the locks agree."""
LARGEST_LIST = 4 << 20  # bytes
LARGEST_SIZE = 64 << 30  # bytes

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.+~%-]*"
_LINE = re.compile(rf"([0-9a-f]{{64}})  ((?:{_PART}/)+{_PART})")
_KEY = re.compile(r"#\s*(for|python|size):\s*([0-9a-z][0-9a-z.-]*)\s*")


@dataclass(frozen=True)
class Contents:
    """A list. `system`: ID and version of os-release(5), `debian-12`. `python`: the version that the wheels are for, `3.11`.
    `digests`: name -> sha256, in the order of the files."""

    version: str
    system: str
    python: str
    size: int
    digests: Mapping[str, str]


def is_bundle(source: str) -> bool:
    """Return whether `--release` names a bundle."""
    return source.startswith("/") and source.endswith(BUNDLE_ENDING)


def order(name: str) -> tuple[bool, int, str]:
    """Return the place of a file: the descriptor is first, because a plan reads it."""
    return (name != FIRST, FOLDERS.index(name.partition("/")[0]), name)


def render(contents: Contents) -> bytes:
    """Return the list's bytes, the same for the same files."""
    head = (
        ("product", PRODUCT),
        ("version", contents.version),
        ("architecture", signed_list.ARCHITECTURE),
        ("for", contents.system),
        ("python", contents.python),
        ("size", str(contents.size)),
    )
    lines = [f"# {key}: {value}" for key, value in head]
    lines += [f"{contents.digests[name]}  {name}" for name in sorted(contents.digests, key=order)]
    return ("\n".join(lines) + "\n").encode()


def parse(content: bytes) -> Contents:
    """Parse a list. Raises ReleaseError NQR-REL-061 for a list that no build writes, and those of `signed_list`."""
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        raise hostile("its list is not plain text") from None
    head = signed_list.head(text)
    signed_list.require(head, "")
    keys = [(match[1], match[2]) for line in text.splitlines() if (match := _KEY.fullmatch(line))]
    found = dict(keys)
    if len(keys) != 3 or len(found) != 3 or not found["size"].isdecimal() or int(found["size"]) > LARGEST_SIZE:
        raise hostile("the head of its list is not complete")
    digests: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[2].partition("/")[0] not in FOLDERS or match[2] in digests:
            raise hostile(f"its list has the line {line[:120]!r}")
        digests[match[2]] = match[1]
    if list(digests) != sorted(digests, key=order) or next(iter(digests), "") != FIRST:
        raise hostile("its list is not in order")
    if _parents(digests) & digests.keys():
        raise hostile("its list names a file and a folder alike")
    return Contents(head.version, found["for"], found["python"], int(found["size"]), digests)


def _parents(names: Iterable[str]) -> set[str]:
    return {"/".join(parts[:n]) for parts in (name.split("/") for name in names) for n in range(1, len(parts))}


def hostile(why: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-061",
        f"This is not a bundle of nqr: {why}.",
        "Do not install this copy: get the bundle from its publisher again, and check it with nqr bundle verify.",
    )

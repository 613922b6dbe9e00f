"""The head of a signed list of checksums. It binds the list to one release: comments that sha256sum(1) skips.

    # product: nqrust-microvm
    # version: 0.4.2
    # architecture: x86_64
    7d0f…  nqrust-manager-x86_64-linux-musl

A signature alone proves only that the publisher made the list, at some time and for some release. Without the head, anyone
could serve the list and the files of an older release at the address of a newer one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nqrust.contract.names import PRODUCT
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import versions

ARCHITECTURE = "x86_64"
KEYS = ("product", "version", "architecture")


@dataclass(frozen=True)
class Head:
    """`version` is in a form that `versions` can compare."""

    product: str
    version: str
    architecture: str


def head(checksums: str) -> Head:
    """Return the head of a list whose signature is good. Lines with other keys are for other programs. Raises ReleaseError
    NQR-REL-028."""
    found: dict[str, str] = {}
    for line in checksums.splitlines():
        if not line.startswith("#"):
            break
        match = re.fullmatch(r"#\s*([a-z]+):\s*([0-9A-Za-z][0-9A-Za-z.+_-]*)\s*", line)
        if match is None or match[1] not in KEYS:
            continue
        if match[1] in found:
            raise _unbound(f"its head names the {match[1]} twice")
        found[match[1]] = match[2]
    missing = [key for key in KEYS if key not in found]
    if missing:
        raise _unbound(f"its head does not name the {' and the '.join(missing)}")
    version = found["version"].removeprefix("v")
    if versions.parse(version) is None:
        raise _unbound(f"{version} is not a version that can be compared")
    return Head(found["product"], version, found["architecture"])


def _unbound(why: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-028",
        f"The signed list does not say which release it is for: {why}.",
        "Ask the publisher for a list with product, version and architecture (docs/reference/releases.md).",
    )


def require(found: Head, tag: str) -> None:
    """Check that the list is of this product, for this machine, and of the version in `tag`. A tag without a version, such as
    `latest`, fits each version. Raises ReleaseError NQR-REL-029."""
    wanted = versions.in_address(tag)
    for key, is_, should in (
        ("product", found.product, PRODUCT),
        ("architecture", found.architecture, ARCHITECTURE),
        ("version", found.version, wanted.removeprefix("v") or found.version),
    ):
        if is_ != should:
            raise ReleaseError(
                "NQR-REL-029",
                f"The signed list is for another release: its {key} is {is_}, not {should}.",
                "Do not install this copy: get the release from its publisher again, or correct its address.",
            )

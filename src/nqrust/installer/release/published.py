"""Reading of a published release: its list of checksums, and what the list describes.

A release in nqr's own form has `release.json` (the descriptor) in its list, and every artifact of the descriptor under the last
part of its name. One in upstream's form has neither: the names of its files describe it. An address and a folder differ only
in the `Place` that hands out the files.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Protocol

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import signature, signed_list, upstream
from nqrust.installer.release.bundled import DESCRIPTOR
from nqrust.installer.release.descriptor import Artifact, Release

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Place(Protocol):
    """Where the files of a release are. `base`: an address or a folder. `read` and `size` take a name in the list; `read` raises
    ReleaseError NQR-REL-021 for a missing file, and `size` returns None."""

    @property
    def base(self) -> str: ...
    def read(self, name: str) -> bytes: ...
    def size(self, name: str) -> int | None: ...


def describe(place: Place, tag: str, key: Ed25519PublicKey | None) -> Release:
    """Return the release at `place`. With a `key`, only the list that it signed counts: it names the version, and each of its
    files must be there. Raises ReleaseError."""
    listed = place.read(upstream.CHECKSUMS)
    checksums = listed.decode("utf-8", "replace")
    digests = upstream.parse_checksums(checksums)
    version = ""
    if key is not None:
        signature.verify(listed, place.read(f"{upstream.CHECKSUMS}{signature.ENDING}"), key)
        head = signed_list.head(checksums)
        signed_list.require(head, tag)
        version = head.version
    if DESCRIPTOR in digests:
        return _of_own_form(place, digests, version)
    if key is not None:
        sizes = {name: _size(place, name) for name in upstream.wanted(digests)}
        return upstream.describe(place.base, tag=version, checksums=checksums, manifest=None, sizes=sizes)
    found = {name: size for name in upstream.wanted(digests) if (size := place.size(name))}
    return upstream.describe(place.base, tag=tag, checksums=checksums, manifest=_manifest(place), sizes=found)


def _manifest(place: Place) -> str | None:
    try:
        return place.read(upstream.MANIFEST).decode("utf-8", "replace")
    except ReleaseError as error:
        if error.code != "NQR-REL-021":
            raise
        return None


def _size(place: Place, name: str) -> int:
    size = place.size(name)
    if size is None:
        raise ReleaseError(
            "NQR-REL-021",
            f"The signed list names {name}, but {place.base} does not have it.",
            "Try again. If this repeats, tell the publisher that the release is not complete.",
        )
    return size


def _of_own_form(place: Place, digests: dict[str, str], version: str) -> Release:
    raw = place.read(DESCRIPTOR)
    if hashlib.sha256(raw).hexdigest() != digests[DESCRIPTOR]:
        raise ReleaseError(
            "NQR-REL-022",
            f"{place.base}/{DESCRIPTOR} is not what the release lists: its sha256 differs.",
            "Check for a proxy that rewrites downloads; if there is none, the release itself may have been tampered with.",
        )
    try:
        release = Release.model_validate(json.loads(raw))
    except ValueError as error:
        raise _unfit(place, "this version of nqr does not know its form") from error
    if version and release.version != version:
        raise _unfit(place, f"its version is {release.version}, and that of the signed list is {version}")
    flat = [name_in_list(artifact) for artifact in release.artifacts]
    if len(set(flat)) != len(flat):
        raise _unfit(place, "two of its files have the same name")
    for artifact in release.artifacts:
        if ".." in artifact.name.split("/"):
            raise _unfit(place, f"{artifact.name} leaves the release's folder")
        if digests.get(name_in_list(artifact)) != artifact.sha256:
            raise _unfit(place, f"{name_in_list(artifact)} is not in the list of checksums with its sha256")
    urls = {artifact: f"{place.base}/{name_in_list(artifact)}" for artifact in release.artifacts}
    return release.model_copy(update={"artifacts": tuple(a.model_copy(update={"url": url}) for a, url in urls.items())})


def name_in_list(artifact: Artifact) -> str:
    """Return the name under which an artifact is published. Pages of releases have no folders."""
    return artifact.name.rpartition("/")[2]


def _unfit(place: Place, why: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-073",
        f"{place.base}/{DESCRIPTOR} cannot be used: {why}.",
        "Use a newer nqr, or tell the publisher that the release is not complete.",
    )

"""Opens the bundle that `--release` names. Only reads, and only the beginning of the file."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass

from nqrust.contract.images import MANIFEST
from nqrust.host.errors import HostError
from nqrust.host.facts import os as os_facts
from nqrust.host.facts.model import Os
from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import Progress
from nqrust.installer.engine.step import Step
from nqrust.installer.release import newest, signature
from nqrust.installer.release.bundle import archive
from nqrust.installer.release.bundle.contents import Contents
from nqrust.installer.release.bundle.unpack_step import ORIGIN, UnpackBundle
from nqrust.installer.release.bundled import read_release
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.remember_step import RememberRelease

FIRECRACKER = "firecracker/firecracker.tgz"


@dataclass(frozen=True)
class Bundle:
    """An open bundle. `directory`: its files, once they are unpacked. `firecracker`: the sha256 of its archive, "" without one.
    `file`: "" if only the unpacked files are left. `images`: names of the images in it."""

    directory: str
    release: Release
    signed_by: str = ""
    firecracker: str = ""
    file: str = ""
    digest: str = ""
    images: tuple[str, ...] = ()

    def steps(self, progress: Progress) -> tuple[Step, ...]:
        """Return the steps that prepare the release."""
        if not self.file:
            return ()
        remember = (RememberRelease(self.signed_by, self.release.version),) if self.signed_by else ()
        return (*remember, UnpackBundle(self.file, self.directory, self.digest, self.signed_by, progress))


def images_in(names: Iterable[str]) -> tuple[str, ...]:
    """Return the images among the files of a bundle."""
    return tuple(sorted(name.split("/")[1] for name in names if name.startswith("images/") and name.endswith(f"/{MANIFEST}")))


def system_of(os: Os) -> str:
    """Return the name of a system in bundles: `debian-12`."""
    return f"{os.id}-{os.version_id}"


def open_bundle(host: Host, path: str, key_file: str | None, cache: str) -> Bundle:
    """Open a bundle for this host. Without the file (on a stick that was pulled out), the files that an earlier run has unpacked
    from it count. Raises ReleaseError."""
    if not host.exists(path):
        return _unpacked(host, path, key_file, cache)
    head = check(host, path, key_file)
    _fits(host, head.contents)
    return Bundle(
        directory=f"{cache}/bundles/{head.digest[:16]}",
        release=_release(head.descriptor),
        signed_by=newest.key_id(signature.read_key(host, key_file)) if key_file else "",
        firecracker=head.contents.digests.get(FIRECRACKER, ""),
        file=path,
        digest=head.digest,
        images=images_in(head.contents.digests),
    )


def check(host: Host, path: str, key_file: str | None) -> archive.Head:
    """Read the beginning of a bundle and check its signature, if a key is given. Raises ReleaseError."""
    key = signature.read_key(host, key_file) if key_file else None
    try:
        head = archive.read_head(path)
    except OSError as error:
        raise archive.unreadable(error.strerror or str(error)) from error
    if key is not None:
        signature.verify(head.raw, head.signature or b"", key)
    if _release(head.descriptor).version != head.contents.version:
        raise archive.unreadable("its list and its release have different versions")
    return head


def _release(descriptor: bytes) -> Release:
    try:
        return Release.model_validate_json(descriptor)
    except ValueError:
        raise archive.unreadable("this version of nqr does not know the form of its release") from None


def _fits(host: Host, contents: Contents) -> None:
    here, python = system_of(os_facts.probe(host)), ".".join(platform.python_version_tuple()[:2])
    if contents.system != here:
        what = f"The bundle is for {contents.system}, and this host has {here}."
    elif contents.python != python:
        what = f"The bundle is for Python {contents.python}, and nqr runs on Python {python} here."
    else:
        return
    raise ReleaseError("NQR-REL-063", what, "Build the bundle on a host with the same system: scripts/install/bundle.sh.")


def _unpacked(host: Host, path: str, key_file: str | None, cache: str) -> Bundle:
    for origin in host.glob(f"{cache}/bundles/*/{ORIGIN}"):
        directory = origin.rpartition("/")[0]
        try:
            known = json.loads(host.read_text(origin))
        except (HostError, ValueError):
            continue
        release = read_release(host, f"{directory}/release")
        if known.get("file") == path and release is not None and _signed_by(host, str(known.get("signed_by", "")), key_file):
            archived = f"{directory}/{FIRECRACKER}"
            found = host.sha256(archived) if host.exists(archived) else ""
            manifests = host.glob(f"{directory}/images/*/{MANIFEST}")
            images = images_in(path.removeprefix(f"{directory}/") for path in manifests)
            return Bundle(directory, release, str(known.get("signed_by", "")), found, images=images)
    raise ReleaseError("NQR-REL-019", f"There is no bundle {path} on this host.", "Copy the bundle there, or correct --release.")


def _signed_by(host: Host, signer: str, key_file: str | None) -> bool:
    """Return whether the key in the file was the one that was checked. A key that went with the stick stands for any key: its
    signature was good."""
    if key_file is None:
        return True
    return signer == newest.key_id(signature.read_key(host, key_file)) if host.exists(key_file) else bool(signer)

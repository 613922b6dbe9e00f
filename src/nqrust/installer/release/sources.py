"""The sources of a release, as a registry. Opening a source is cheap and only reads, so planning can do it. The steps of a
source do the work.

    files = open_source(host, settings, checkout, CACHE_DIR, events)    the release to install
    steps = source_steps(settings, checkout, files)                     prepare it, in the build phase
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import Reporter
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Step
from nqrust.installer.release import newest, published, signature, transport
from nqrust.installer.release.build_step import BuildRelease
from nqrust.installer.release.bundle.contents import is_bundle
from nqrust.installer.release.bundle.opening import Bundle, open_bundle
from nqrust.installer.release.bundled import damaged, describe_checkout, read_release
from nqrust.installer.release.copy_step import CopyRelease
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.fetch_step import FetchRelease
from nqrust.installer.release.interpreter import interpreter
from nqrust.installer.release.places import Address, Folder
from nqrust.installer.release.remember_step import RememberRelease
from nqrust.installer.release.source_tree.describing import describe as describe_tree
from nqrust.installer.release.source_tree.forms import UPSTREAM, form_of
from nqrust.installer.release.source_tree.tree_step import BuildTree
from nqrust.installer.settings.model import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

GITHUB = "https://github.com"


@dataclass(frozen=True)
class Opened:
    """A release and the folder that holds its artifacts, or will after the steps. `signed_by`: the id of the key that signed
    it, or "". `bundle`: the open bundle that it comes from."""

    release: Release
    directory: str
    signed_by: str = ""
    bundle: Bundle | None = None


@dataclass(frozen=True)
class Request:
    """Arguments for a source. `checkout`: the installer's source tree, "" if installed. `cache`: absolute folder."""

    host: Host
    settings: Settings
    checkout: str
    cache: str


@dataclass(frozen=True)
class Source:
    """One source of releases. `fits`: whether the settings select it."""

    name: str
    fits: Callable[[Settings], bool]
    open: Callable[[Request], Opened]
    steps: Callable[[Settings, str, Opened, str, Progress], tuple[Step, ...]]


def kept_release(settings: Settings) -> str:
    """Return the folder of the installation's copy."""
    return f"{settings.layout.installer_dir}/bundle"


def _complete(host: Host, directory: str, version: str | None = None) -> Release | None:
    release = read_release(host, directory)
    if release is None or (version is not None and release.version != version) or damaged(host, directory, release):
        return None
    return release


def _open_built(request: Request) -> Opened:
    """Open the source tree of the settings, in either form, or nqr's own."""
    host, tree = request.host, request.settings.release.source_dir or ""
    if not tree or form_of(host, tree) != UPSTREAM:
        return _open_bundled(request, tree or request.checkout)
    release = describe_tree(host, tree, with_ui=request.settings.has_ui)
    return Opened(release, f"{request.cache}/releases/{release.version}")


def _open_bundled(request: Request, checkout: str) -> Opened:
    host, kept = request.host, kept_release(request.settings)
    if not checkout:
        release = _complete(host, kept)
        if release is None:
            raise ReleaseError(
                "NQR-REL-017",
                f"There is no release to install: no source tree was named and {kept} holds none.",
                "Run ./scripts/install/install.sh from a copy of the repository, or name one with --source.",
            )
        return Opened(release, kept)
    described = describe_checkout(host, checkout)
    # Reuse an earlier build from the same sources, from either folder.
    for directory in (kept, f"{request.cache}/releases/{described.version}"):
        release = _complete(host, directory, described.version)
        if release is not None:
            return Opened(release, directory)
    return Opened(described, f"{request.cache}/releases/{described.version}")


def _build_steps(settings: Settings, checkout: str, opened: Opened, cache: str, progress: Progress) -> tuple[Step, ...]:
    source = settings.release.source_dir or ""
    if opened.release.form == "upstream":
        return (BuildTree(opened.release, source, opened.directory, interpreter().runner, cache=cache, progress=progress),)
    return _own_steps(source or checkout, opened, cache, progress)


def _own_steps(source: str, opened: Opened, cache: str, progress: Progress) -> tuple[Step, ...]:
    return (BuildRelease(opened.release.version, opened.directory, source, interpreter().runner, cache, progress),)


def _open_address(request: Request) -> Opened:
    base, tag = _address(request.settings.release.source)
    key = _key(request)
    with transport.client(signed=key is not None) as client:
        release = published.describe(Address(client, base), tag, key)
    return Opened(release, f"{request.cache}/releases/{release.version}", newest.key_id(key) if key else "")


def _open_folder(request: Request) -> Opened:
    source, key = request.settings.release.source.rstrip("/"), _key(request)
    # Without a signed version the name of a folder is as good a tag as that of an address.
    release = published.describe(Folder(request.host, source), source.rpartition("/")[2], key)
    return Opened(release, f"{request.cache}/releases/{release.version}", newest.key_id(key) if key else "")


def _key(request: Request) -> Ed25519PublicKey | None:
    path = request.settings.release.public_key
    return signature.read_key(request.host, path) if path else None


def _address(source: str) -> tuple[str, str]:
    """Return the assets' base address and the tag, from `https://HOST/…/TAG` or `github:OWNER/REPO[@TAG]`."""
    if source.startswith("github:"):
        match = re.fullmatch(r"github:([\w.-]+/[\w.-]+?)(?:@([\w.+-]+))?", source)
        if match is None:
            raise ReleaseError("NQR-REL-018", f"{source} does not name a GitHub release.", "Write it as github:OWNER/REPO@TAG.")
        if match[2] is None:
            return f"{GITHUB}/{match[1]}/releases/latest/download", "latest"
        return f"{GITHUB}/{match[1]}/releases/download/{match[2]}", match[2]
    import httpx

    base = source.rstrip("/")
    try:
        httpx.URL(base)
    except httpx.InvalidURL as error:
        raise ReleaseError(
            "NQR-REL-018", f"{source} is not an address: {error}.", "Write it as https://HOST/FOLDER/TAG."
        ) from error
    return base, base.rpartition("/")[2]


def _fetch_steps(settings: Settings, checkout: str, opened: Opened, cache: str, progress: Progress) -> tuple[Step, ...]:
    mirror = (settings.release.mirror or "").rstrip("/")
    return (*_remember(opened), FetchRelease(opened.release, opened.directory, cache, bool(opened.signed_by), mirror, progress))


def _copy_steps(settings: Settings, checkout: str, opened: Opened, cache: str, progress: Progress) -> tuple[Step, ...]:
    source = settings.release.source.rstrip("/")
    return (*_remember(opened), CopyRelease(opened.release, source, opened.directory, cache))


def _remember(opened: Opened) -> tuple[Step, ...]:
    return (RememberRelease(opened.signed_by, opened.release.version),) if opened.signed_by else ()


def _open_file(request: Request) -> Opened:
    release = request.settings.release
    bundle = open_bundle(request.host, release.source, release.public_key, request.cache)
    return Opened(bundle.release, f"{bundle.directory}/release", bundle.signed_by, bundle)


def _unpack_steps(settings: Settings, checkout: str, opened: Opened, cache: str, progress: Progress) -> tuple[Step, ...]:
    return opened.bundle.steps(progress) if opened.bundle else ()


def _open_unknown(request: Request) -> Opened:
    source = request.settings.release.source
    if request.host.exists(source):
        raise ReleaseError(
            "NQR-REL-019",
            f"{source} is a file, and not a bundle: its name does not end with .tar.zst.",
            "Name an address, a GitHub release, a folder or a bundle.",
        )
    raise ReleaseError(
        "NQR-REL-018",
        f"--release {source} names no release: it is not `bundled`, an address, github:OWNER/REPO@TAG or a folder of this host.",
        "Correct it, with the absolute path of a folder, or leave --release out.",
    )


SOURCES: tuple[Source, ...] = (
    Source("bundled", lambda s: s.release.source == "bundled", _open_built, _build_steps),
    Source("github", lambda s: s.release.source.startswith("github:"), _open_address, _fetch_steps),
    Source("url", lambda s: s.release.source.startswith(("http://", "https://")), _open_address, _fetch_steps),
    Source("bundle", lambda s: is_bundle(s.release.source), _open_file, _unpack_steps),
    Source("folder", lambda s: s.release.source.startswith("/") and os.path.isdir(s.release.source), _open_folder, _copy_steps),
    Source("unknown", lambda s: True, _open_unknown, _fetch_steps),
)


def _source(settings: Settings) -> Source:
    return next(source for source in SOURCES if source.fits(settings))


def open_source(host: Host, settings: Settings, checkout: str, cache: str, events: Reporter) -> Opened:
    """Return the release that the settings select. Only reads, also from the network for a remote release. Raises ReleaseError,
    HostError."""
    return _source(settings).open(Request(host, settings, checkout, cache))


def source_steps(settings: Settings, checkout: str, opened: Opened, cache: str, progress: Progress = silent) -> tuple[Step, ...]:
    """Return the steps of the build phase that fill `opened.directory` with the files of `opened.release`."""
    return _source(settings).steps(settings, checkout, opened, cache, progress)


def open_own(host: Host, settings: Settings, checkout: str, cache: str) -> Opened:
    """Return the release that holds nqr itself: the checkout's, or the installation's copy. For a release without nqr."""
    return _open_bundled(Request(host, settings, checkout, cache), checkout)


def own_steps(settings: Settings, checkout: str, opened: Opened, cache: str, progress: Progress = silent) -> tuple[Step, ...]:
    """Return the steps that fill `opened.directory` for `open_own`."""
    return _own_steps(checkout, opened, cache, progress)

"""The sources of a release, as a registry. Opening a source is cheap and only reads, so planning can do it. The steps of a
source do the work.

    files = open_source(host, settings, checkout, CACHE_DIR, events)    the release to install
    steps = source_steps(settings, checkout, files)                     prepare it, in the build phase
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import Reporter
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Step
from nqrust.installer.release import newest, signature, signed_list, transport, upstream
from nqrust.installer.release.build_step import BuildRelease
from nqrust.installer.release.bundle.contents import is_bundle
from nqrust.installer.release.bundle.opening import Bundle, open_bundle
from nqrust.installer.release.bundled import damaged, describe_checkout, read_release
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.download import read_small
from nqrust.installer.release.fetch_step import FetchRelease
from nqrust.installer.release.interpreter import interpreter
from nqrust.installer.release.remember_step import RememberRelease
from nqrust.installer.settings.model import Settings

GITHUB = "https://github.com"
_LONGEST_SIZE = 15  # digits


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


def _open_bundled(request: Request) -> Opened:
    host, kept = request.host, kept_release(request.settings)
    checkout = request.settings.release.source_dir or request.checkout
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
    source = settings.release.source_dir or checkout
    version, runner = opened.release.version, interpreter().runner
    return (BuildRelease(version, opened.directory, source, runner, cache, progress),)


def _open_address(request: Request) -> Opened:
    base, tag = _address(request.settings.release.source)
    path = request.settings.release.public_key
    key = signature.read_key(request.host, path) if path else None
    with transport.client(signed=key is not None) as client:
        release = _described(client, base, tag) if key is None else _signed(client, base, tag, key)
    return Opened(release, f"{request.cache}/releases/{release.version}", newest.key_id(key) if key else "")


def _described(client: httpx.Client, base: str, tag: str) -> Release:
    """Return the release in upstream's own form, which nobody has signed. Its manifest names the version."""
    checksums = read_small(f"{base}/{upstream.CHECKSUMS}", client=client).decode("utf-8", "replace")
    try:
        manifest: str | None = read_small(f"{base}/{upstream.MANIFEST}", client=client).decode("utf-8", "replace")
    except ReleaseError as error:
        if error.code != "NQR-REL-021":
            raise
        manifest = None
    sizes = {name: size for name in upstream.parse_checksums(checksums) if (size := _size(client, f"{base}/{name}"))}
    return upstream.describe(base, tag=tag, checksums=checksums, manifest=manifest, sizes=sizes)


def _signed(client: httpx.Client, base: str, tag: str, key: Ed25519PublicKey) -> Release:
    """Return the release that `key` signed. Only the signed list counts: it names the version, and each of its files must be
    there. Raises ReleaseError."""
    listed = read_small(f"{base}/{upstream.CHECKSUMS}", client=client)
    signature.verify(listed, read_small(f"{base}/{upstream.CHECKSUMS}{signature.ENDING}", client=client), key)
    checksums = listed.decode("utf-8", "replace")
    head = signed_list.head(checksums)
    signed_list.require(head, tag)
    sizes: dict[str, int] = {}
    for name in upstream.wanted(upstream.parse_checksums(checksums)):
        size = _size(client, f"{base}/{name}")
        if size is None:
            raise ReleaseError(
                "NQR-REL-021",
                f"{base}/{name} cannot be had: the signed list has it, and the server names no size of it.",
                "Try again. If this repeats, tell the publisher that the release is not complete.",
            )
        sizes[name] = size
    return upstream.describe(base, tag=head.version, checksums=checksums, manifest=None, sizes=sizes)


def _size(client: httpx.Client, url: str) -> int | None:
    try:
        answer = client.head(url, headers={"Accept-Encoding": "identity"})
    except (httpx.HTTPError, httpx.InvalidURL):  # a name in the list can be anything
        return None
    length = answer.headers.get("content-length", "")
    return int(length) if answer.status_code == 200 and length.isdecimal() and len(length) <= _LONGEST_SIZE else None


def _address(source: str) -> tuple[str, str]:
    """Return the assets' base address and the tag, from `https://HOST/…/TAG` or `github:OWNER/REPO[@TAG]`."""
    if source.startswith("github:"):
        match = re.fullmatch(r"github:([\w.-]+/[\w.-]+?)(?:@([\w.+-]+))?", source)
        if match is None:
            raise ReleaseError("NQR-REL-018", f"{source} does not name a GitHub release.", "Write it as github:OWNER/REPO@TAG.")
        if match[2] is None:
            return f"{GITHUB}/{match[1]}/releases/latest/download", "latest"
        return f"{GITHUB}/{match[1]}/releases/download/{match[2]}", match[2]
    base = source.rstrip("/")
    try:
        httpx.URL(base)
    except httpx.InvalidURL as error:
        raise ReleaseError(
            "NQR-REL-018", f"{source} is not an address: {error}.", "Write it as https://HOST/FOLDER/TAG."
        ) from error
    return base, base.rpartition("/")[2]


def _fetch_steps(settings: Settings, checkout: str, opened: Opened, cache: str, progress: Progress) -> tuple[Step, ...]:
    signed_by, version = opened.signed_by, opened.release.version
    remember = (RememberRelease(signed_by, version),) if signed_by else ()
    return (*remember, FetchRelease(opened.release, opened.directory, cache, bool(signed_by), progress))


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
            f"{source} is not a bundle, whose name ends with .tar.zst, and this version installs no other files.",
            "Name a bundle by its absolute path, or leave --release out.",
        )
    raise ReleaseError(
        "NQR-REL-018",
        f"--release {source} is neither `bundled`, nor an address, nor github:OWNER/REPO@TAG.",
        "Leave --release out.",
    )


SOURCES: tuple[Source, ...] = (
    Source("bundled", lambda s: s.release.source == "bundled", _open_bundled, _build_steps),
    Source("github", lambda s: s.release.source.startswith("github:"), _open_address, _fetch_steps),
    Source("url", lambda s: s.release.source.startswith(("http://", "https://")), _open_address, _fetch_steps),
    Source("bundle", lambda s: is_bundle(s.release.source), _open_file, _unpack_steps),
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

"""Writes a bundle for hosts with the same system as this one."""

from __future__ import annotations

import hashlib
import io
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nqrust.contract.images import MANIFEST
from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import HostError
from nqrust.host.placing import place_file
from nqrust.host.port import Host, Kind, command
from nqrust.host.way import led_by_others
from nqrust.image import container, tiny
from nqrust.image.errors import ImageError
from nqrust.image.kernel_sources import registry
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import Progress
from nqrust.installer.release import compiled, offline_pip
from nqrust.installer.release.build import build
from nqrust.installer.release.bundle import archive
from nqrust.installer.release.bundle.contents import COMPILED, LIST, Contents, order, render
from nqrust.installer.release.bundle.opening import FIRECRACKER
from nqrust.installer.release.bundled import GUEST_AGENT, OWN_WHEEL, REQUIREMENTS
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.release.interpreter import BROUGHT
from nqrust.installer.release.wheelhouse import Wheelhouse
from nqrust.installer.settings.model import BUNDLE_ENDING
from nqrust.installer.verbs.packages.manager import Collecting

_BOOTSTRAP = "requirements/build.txt"
PYTHON = "python/python.tar.gz"
RECIPES = {"tiny": tiny.build, container.NAME: container.build}
"""Image -> the function that builds it."""


@dataclass(frozen=True)
class Ingredients:
    """The parts of a bundle. `checkout`: the source tree. `system`: `debian-12`. `packages`: names for the package manager.
    `firecracker`: an archive whose digest is checked, or "". `key`: a file with an Ed25519 private key (PEM), or "". `images`: names
    of RECIPES, to build here. `python`: a folder with a Python that works anywhere, for hosts that have none, or ""."""

    checkout: str
    system: str
    packages: Sequence[str]
    collecting: Collecting
    firecracker: str = ""
    key: str = ""
    images: tuple[str, ...] = ()
    python: str = ""


def write(host: Host, ingredients: Ingredients, output: str, runner: str, progress: Progress) -> str:
    """Write the bundle into a file, or into a new file of the folder `output`. Return its path. Works in a folder beside the file, or in
    the cache where others could replace that folder. Replaces the file once the new one is complete. `runner`: a Python with pip and hatchling. Raises ReleaseError, HostError."""
    key = read_private_key(host, ingredients.key) if ingredients.key else None
    found = host.stat(output)
    parent = output if found is not None and found.kind is Kind.directory else os.path.dirname(output)
    if not host.exists(parent):
        raise _unwritable(output, "there is no such folder")
    of_others = led_by_others(host, parent, host.euid()) is not None
    work = _work_in_cache(host, parent) if of_others else f"{parent}/.nqr-bundle.building"
    host.remove_tree(work)
    host.mkdir(work, mode=0o700)
    try:
        version = _collect(host, ingredients, work, runner, progress)
        progress("writing the bundle", 0.8)
        names = {path: f"{work}/{path}" for path in _files(work)}
        contents = Contents(
            version,
            ingredients.system,
            ".".join(platform.python_version_tuple()[:2]),
            sum(os.path.getsize(path) for path in names.values()),
            {name: host.sha256(path) for name, path in names.items()},
        )
        new = f"{work}/bundle"
        _archive(contents, names, new, key)
        path = f"{output}/nqrust-{version}-{ingredients.system}{BUNDLE_ENDING}" if parent == output else output
        if of_others:
            place_file(new, path, mode=0o644)
        else:
            os.replace(new, path)
        return path
    except OSError as error:
        raise _unwritable(output, error.strerror or str(error)) from error
    finally:
        host.remove_tree(work)


def _work_in_cache(host: Host, parent: str) -> str:
    """Return a folder for the bundles of one place: a later build there removes what a killed one left."""
    ensure_private(host, CACHE_DIR)
    return f"{CACHE_DIR}/bundle-{hashlib.sha256(os.fsencode(parent)).hexdigest()[:16]}.building"


def _unwritable(output: str, why: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-067",
        f"The bundle could not be written to {output}: {why}.",
        "Name a file in a folder with enough free space with --output.",
    )


def _collect(host: Host, ingredients: Ingredients, work: str, runner: str, progress: Progress) -> str:
    """Fill the folders of a bundle below `work`. Return the version of the release."""
    release = build(host, checkout=ingredients.checkout, directory=f"{work}/release", runner=runner, progress=progress)
    progress("collecting Python packages", 0.2)
    host.copy_file(f"{ingredients.checkout}/{_BOOTSTRAP}", f"{work}/{os.path.basename(_BOOTSTRAP)}", mode=0o644)
    locks = (*(f"release/requirements/{name}.txt" for name in REQUIREMENTS), os.path.basename(_BOOTSTRAP))
    Wheelhouse(release.version, work, locks, runner, directory=f"{work}/wheels", progress=progress).apply(host)
    _compile(host, work, runner, progress)
    progress("collecting the guest kernel", 0.5)
    try:
        registry.collect(host, f"{work}/kernel", progress)
    except ImageError as error:
        raise ReleaseError(error.code, error.what, error.cure) from error
    progress("collecting packages of the distribution", 0.6)
    ingredients.collecting.collect(host, ingredients.packages, f"{work}/packages")
    if ingredients.python:
        progress("packing Python", 0.65)
        pack_python(host, ingredients.python, f"{work}/{PYTHON}")
    _images(host, ingredients.images, work, progress)
    if ingredients.firecracker:
        host.mkdir(os.path.dirname(f"{work}/{FIRECRACKER}"), mode=0o755)
        host.copy_file(ingredients.firecracker, f"{work}/{FIRECRACKER}", mode=0o644)
    return release.version


def _compile(host: Host, work: str, runner: str, progress: Progress) -> None:
    """Compile all modules of the wheels, so that no host has to."""
    progress("compiling Python packages", 0.4)
    library = f"{work}/.environment/site-packages"
    locks = (*(f"requirements/{name}.txt" for name in REQUIREMENTS), OWN_WHEEL)
    offline_pip.install(
        host,
        runner,
        files=[f"{work}/release/{name}" for name in locks],
        find_links=(f"{work}/wheels", f"{work}/release/wheels"),
        options=("-q", "--no-deps", "--target", library),
    )
    host.mkdir(f"{work}/{os.path.dirname(COMPILED)}", mode=0o755)
    compiled.pack(host, runner, library, f"{work}/{COMPILED}")


def pack_python(host: Host, folder: str, archive_path: str) -> None:
    """Pack a Python in the form of python-build-standalone: a folder `python` in a tar archive. Equal folders give equal bytes."""
    host.mkdir(os.path.dirname(archive_path), mode=0o755)
    plain = archive_path.removesuffix(".gz")
    fixed = ("--sort=name", f"--mtime=@{archive.MTIME}", "--owner=0", "--group=0", "--numeric-owner", "--mode=u+rw,go+rX,go-w")
    renamed = ("--transform", "flags=r;s,^\\.,python,", "--exclude=__pycache__", f"--exclude=./{BROUGHT}")
    host.run(command("tar", *fixed, *renamed, "-C", folder, "-cf", plain, ".", timeout=600))
    host.run(command("gzip", "-n", plain, timeout=600))


def _images(host: Host, names: tuple[str, ...], work: str, progress: Progress) -> None:
    """Build the images below `work`. A fixed time in them keeps the bundle the same for the same sources."""
    if names:
        host.mkdir(f"{work}/images", mode=0o755)
        host.mkdir(f"{work}/.packages", mode=0o700)
    for name in names:
        progress(f"building the image {name}", 0.7)
        target = f"{work}/images/{name}"
        try:
            made = RECIPES[name](
                host,
                target_dir=target,
                guest_agent=f"{work}/release/{GUEST_AGENT}",
                cache_dir=f"{work}/.packages",
                progress=lambda text, _: progress(text, None),
            )
        except ImageError as error:
            raise ReleaseError(error.code, error.what, error.cure) from error
        fixed = made.model_copy(update={"created_at": datetime.fromtimestamp(archive.MTIME, timezone.utc)})
        host.write_file(f"{target}/{MANIFEST}", fixed.model_dump_json(indent=2).encode() + b"\n")


def _files(work: str) -> list[str]:
    """Return the names of all files in the folders below `work`, without hidden ones."""
    found: list[str] = []
    for folder, folders, names in os.walk(work):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = os.path.relpath(folder, work)
        if relative != ".":
            found += [f"{relative}/{name}" for name in names if not name.startswith(".")]
    return sorted(found, key=order)


def _archive(contents: Contents, names: dict[str, str], path: str, key: Ed25519PrivateKey | None) -> None:
    listed = render(contents)
    with open(path, "wb") as output:
        writer = archive.Writer(output)
        writer.add(LIST, io.BytesIO(listed), len(listed))
        if key is not None:
            signed = key.sign(listed)
            writer.add(archive.SIGNATURE, io.BytesIO(signed), len(signed))
        for name in contents.digests:
            with open(names[name], "rb") as source:
                writer.add(name, source, os.path.getsize(names[name]))
        writer.close()
        output.flush()
        os.fsync(output.fileno())


def read_private_key(host: Host, path: str) -> Ed25519PrivateKey:
    """Return the private key in a PEM file without a passphrase. Raises ReleaseError NQR-REL-068."""
    try:
        key = load_pem_private_key(host.read_bytes(path), password=None)
    except (HostError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = str(error).rstrip(".") if isinstance(error, HostError) else "it holds no PEM private key without a passphrase"
    else:
        if isinstance(key, Ed25519PrivateKey):
            return key
        why = "its key is not an Ed25519 key"
    raise ReleaseError(
        "NQR-REL-068",
        f"The key {path} cannot sign a bundle: {why}.",
        "Make one with: openssl genpkey -algorithm ed25519 -out key.pem",
    )

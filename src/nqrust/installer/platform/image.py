"""Step: an image built on this host from distribution packages, by a named recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

from nqrust.contract.images import MANIFEST, ImageManifest
from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host, Kind, command
from nqrust.image import folder
from nqrust.image.errors import ImageError
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import silent
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.platform.registered_images import Registry
from nqrust.installer.verbs.file.undo import undo_directory, undo_half
from nqrust.installer.verbs.resource.undo import undo_resource

RECIPES = {"tiny": "nqrust.image.tiny", "container-runtime": "nqrust.image.container"}
"""Name in a release's descriptor (and of the image) -> module with `build`. It is loaded for a build: `nqr status` does without."""


@dataclass(frozen=True)
class BuiltImage:
    """Build `recipe` into `image_dir`/`recipe` with the guest agent at `guest_agent`. Uninstall keeps the image, except with
    `--purge-data`.

    `packages`: a folder with all packages of the image, which replaces the package sources of this host. `ready`: a folder with the
    whole image, which replaces the build.

    `registry`: the manager that registers the image. Undoing the build also removes the registration.

    An interrupted build leaves a folder beside the image. The next build, a rollback or an uninstall removes it.
    """

    image_dir: str
    guest_agent: str
    cache: str = CACHE_DIR
    registry: Registry | None = None
    recipe: str = "tiny"
    packages: str = ""
    ready: str = ""
    progress: Callable[[str, float | None], None] = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "built-image"

    @property
    def id(self) -> str:
        return f"image:{self.recipe}"

    @property
    def path(self) -> str:
        return f"{self.image_dir}/{self.recipe}"

    def describe(self) -> str:
        return f"{'copy' if self.ready else 'build'} the image {self.recipe} {'to' if self.ready else 'in'} {self.path}"

    def inspect(self, host: Host) -> Inspection:
        stat = host.stat(self.path)
        if stat is not None and (stat.kind is not Kind.directory or self._is_anothers(host)):
            return Conflict(
                "NQR-IMG-106",
                f"{self.path} exists and is not an image, so nqr does not build the image {self.recipe} there.",
                f"Move {self.path} away, or choose another folder with IMAGE_DIR.",
            )
        try:
            manifest: dict[str, Any] = json.loads(host.read_text(f"{self.path}/{MANIFEST}"))
        except PathMissing:
            return Needed((f"+ {self.path}",))
        except ValueError:
            return Needed((f"~ {self.path}: {MANIFEST} is damaged",))
        blobs = [manifest.get(name) for name in ("rootfs", "kernel", "kernel_elf", "initrd")]
        for blob in blobs:
            if not isinstance(blob, dict):
                continue
            found = host.stat(f"{self.path}/{blob.get('file')}")
            if found is None or found.size != blob.get("size"):
                return Needed((f"~ {self.path}/{blob.get('file')}",))
        return Satisfied()

    def prepare(self, host: Host) -> Prepared:
        if host.stat(self.path) is None:
            half = undo_half(folder.staging_of(self.path))
            whole = undo_directory(self.path, tree=True, retain=Retain.data)
            if self.registry is None:
                return Prepared(Origin.created, (whole, half))
            row = undo_resource(self.registry.image(self.recipe), self.registry.token_file)
            return Prepared(Origin.created, (row, whole, half))  # undone in reverse: folder before registration
        return Prepared(Origin.modified, ())

    def apply(self, host: Host) -> None:
        if self.ready:
            self._copy(host)
            return
        if host.stat(self.cache) is None:
            host.mkdir(self.cache, mode=0o700)
        packages = self.packages or f"{self.cache}/packages"
        if host.stat(packages) is None:
            host.mkdir(packages, mode=0o700)
        try:
            import_module(RECIPES[self.recipe]).build(
                host, target_dir=self.path, guest_agent=self.guest_agent, cache_dir=packages, progress=self.progress
            )
        except ImageError as error:
            raise StepFailed(error.code, error.what, error.cure) from error

    def _copy(self, host: Host) -> None:
        """Copy the image that a bundle brought. The bundle's list has checked its files."""
        self.progress("copying", None)

        def fill(place: str) -> ImageManifest:
            for name in host.listdir(self.ready):
                # A root file system is mostly empty.
                host.run(command("cp", "--sparse=always", f"{self.ready}/{name}", f"{place}/{name}", timeout=600))
                host.set_mode(f"{place}/{name}", mode=0o644, owner="root", group="root")
            return ImageManifest.model_validate_json(host.read_bytes(f"{place}/{MANIFEST}"))

        try:
            folder.replace(host, self.path, fill)
        except ImageError as error:
            raise StepFailed(error.code, error.what, error.cure) from error

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _is_anothers(self, host: Host) -> bool:
        """Return whether a non-empty folder has no manifest. An image always has one: its folder is put in place whole."""
        names = host.listdir(self.path)
        return bool(names) and MANIFEST not in names

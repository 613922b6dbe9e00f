"""The port to a source of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nqrust.contract.images import ImageManifest, ImagePull
from nqrust.manager.core.core import Core
from nqrust.manager.images.outgoing import Way

Progress = Callable[[str, int, int], None]
"""(what happens, bytes done, bytes of all; 0: leave both as they are). May be called from another thread."""


@dataclass(frozen=True)
class Planned:
    """`origin`: the complete name of what is pulled. `name`: for its image, unless the request has another."""

    origin: str
    name: str


class Source(Protocol):
    def plan(self, wanted: ImagePull) -> Planned | None:
        """Return what a reference means here, or None if it is for another source. Raises ImageError. Pure and quick."""
        ...

    async def fetch(
        self, core: Core, wanted: ImagePull, planned: Planned, name: str, target: str, way: Way, tell: Progress
    ) -> ImageManifest:
        """Make the folder `target` with the image `name`. Leaves nothing behind if this fails. Raises ImageError.

        `way`: of the downloads for this user.
        """
        ...

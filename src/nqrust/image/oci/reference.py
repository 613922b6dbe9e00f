"""Names of container images, such as `nginx:alpine` and `registry.example:5000/team/app@sha256:…`.

The grammar is that of the Distribution project: a first part with a dot or a colon, or `localhost`, is a registry. Without one
the registry is docker.io. Pure.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from nqrust.image.errors import ImageError

DOCKER_HUB = "docker.io"
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
)
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 255


@dataclass(frozen=True)
class Reference:
    """`registry`: host with its port. `path`: of the repository. `digest` wins over `tag`."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        return f"{self.registry}/{self.path}"

    @property
    def host(self) -> str:
        """Return the name or address of the registry, without port and brackets."""
        if self.registry.startswith("["):
            return self.registry[1 : self.registry.index("]")]
        return self.registry.partition(":")[0]

    @property
    def image_name(self) -> str:
        """Return the name of the image on this platform: `nginx-alpine` for `docker.io/library/nginx:alpine`."""
        last = self.path.rpartition("/")[2]
        name = re.sub(r"[^a-z0-9.-]+", "-", f"{last}-{self.tag or self.digest[7:19]}".lower())
        if len(name) > 64:
            name = f"{name[:51]}-{hashlib.sha256(str(self).encode()).hexdigest()[:12]}"
        return name.strip(".-")

    def pinned(self, digest: str) -> str:
        """Return the name of exactly these bytes."""
        return f"{self.repository}@{digest}"

    def __str__(self) -> str:
        if self.digest:
            return self.pinned(self.digest)
        return f"{self.repository}:{self.tag}"


def parse(text: str) -> Reference:
    """Return the complete reference. Raises ImageError NQR-IMG-031."""
    rest, at, digest = text.partition("@")
    first, slash, path = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry = first
    else:
        registry, path = DOCKER_HUB, rest
    path, colon, tag = path.partition(":")
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    fits = (
        len(text) <= _LONGEST
        and _HOST.fullmatch(registry) is not None
        and _PATH.fullmatch(path) is not None
        and (not colon or _TAG.fullmatch(tag) is not None)
        and (not at or _DIGEST.fullmatch(digest) is not None)
    )
    if not fits:
        raise ImageError(
            "NQR-IMG-031",
            f"“{text[:_LONGEST]}” is no name of a container image.",
            "Write it as in nginx:alpine, registry.example/team/app:1.0 or app@sha256:DIGEST.",
        )
    return Reference(registry, path, "" if digest else tag or "latest", digest)

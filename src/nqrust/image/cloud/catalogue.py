"""The catalogue of cloud images: a name such as `debian:13`, and where its publisher has the image and its checksums.

The package has a catalogue; a file of the host takes its place. An image's checksum comes from the publisher's own list,
over the same HTTPS as the image. Signatures of these lists are not checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nqrust.contract.text import first_fault
from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.image import resources
from nqrust.image.cloud import fetching
from nqrust.image.errors import ImageError
from nqrust.image.progress import Progress

_OWN = "cloud/catalogue.json"
_LARGEST = 1 << 20
_NAME = r"^[a-z0-9][a-z0-9.-]{0,30}(:[a-z0-9][a-z0-9.-]{0,30})?$"
_DIGEST = r"[0-9a-fA-F]{64}|[0-9a-fA-F]{128}"


class CloudImage(BaseModel):
    """An entry. `checksums`: URL of a list as sha256sum(1) or BSD's digest(1) writes it, or of the digest alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME)
    aliases: tuple[str, ...] = ()
    description: str = Field(default="", max_length=200)
    url: str = Field(pattern=r"^https?://\S+$")
    checksums: str = Field(pattern=r"^https?://\S+$")

    @property
    def image(self) -> str:
        """The name that its image gets: `debian-13` for debian:13."""
        return self.name.replace(":", "-")


class Catalogue(BaseModel):
    model_config = ConfigDict(extra="forbid")

    images: list[CloudImage] = Field(max_length=1000)


def read(host: Host, path: str | None = None) -> Catalogue:
    """Return the catalogue in the file `path`, or the package's own. Raises ImageError NQR-IMG-060."""
    try:
        content = resources.read(_OWN) if path is None else host.read_bytes(path, _LARGEST)
        return Catalogue.model_validate(json.loads(content))
    except (HostError, ValueError) as error:
        why = ": ".join(first_fault(error.errors())) if isinstance(error, ValidationError) else str(error)
        raise ImageError(
            "NQR-IMG-060",
            f"The image catalogue {path} cannot be used: {why}.",
            "Correct the file, or remove it to use the catalogue of nqr.",
        ) from error


def resolve(name: str, catalogue: Catalogue) -> CloudImage | None:
    """Return the entry with that name or alias, or None."""
    return next((one for one in catalogue.images if name == one.name or name in one.aliases), None)


def fetch(host: Host, image: CloudImage, tell: Progress) -> Callable[[str], None]:
    """Return the `source` of importing.build. It raises ImageError NQR-IMG-058, -059, -061."""

    def download(target: str) -> None:
        tell(f"fetching the checksum of {image.name}", 0.0)
        digest = checksum(fetching.text(image.checksums), image.url.rpartition("/")[2])
        if digest is None:
            raise ImageError(
                "NQR-IMG-061",
                f"{image.checksums} has no checksum for {image.url.rpartition('/')[2]}.",
                "The publisher moved the image: correct its entry in a catalogue of your own.",
            )
        fetching.from_url(host, image.url, digest, tell)(target)

    return download


def checksum(text: str, file: str) -> str | None:
    """Return the SHA-256 or SHA-512 digest of `file` in a list of checksums, the longer if it has both. Pure."""
    if re.fullmatch(_DIGEST, text.strip()):
        return text.strip().lower()
    name = re.escape(file)
    found = re.findall(rf"^({_DIGEST})[ \t]+\*?(?:\./)?{name}[ \t]*$", text, re.MULTILINE)
    found += re.findall(rf"^SHA(?:256|512) \({name}\) = ({_DIGEST})[ \t]*$", text, re.MULTILINE)
    return max(found, key=len, default="").lower() or None

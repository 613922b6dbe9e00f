"""The documents of the OCI image specification that nqr reads. Unknown fields are ignored, as the specification asks for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from nqrust.contract.images import ImageProcess

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
MOST_LAYERS = 127
LARGEST_DOCUMENT = 4 * 2**20
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Platform(BaseModel):
    architecture: str = ""
    os: str = ""


class Descriptor(BaseModel):
    """A blob: its type, digest and size in bytes."""

    mediaType: str = Field(default="", max_length=255)
    digest: Digest
    size: int = Field(ge=0, lt=2**43)
    platform: Platform | None = None


class Index(BaseModel):
    manifests: list[Descriptor] = Field(max_length=1024)


class Manifest(BaseModel):
    config: Descriptor
    layers: list[Descriptor] = Field(max_length=MOST_LAYERS)


_Text = Annotated[str, Field(max_length=131_072, pattern=r"^[^\x00]*$")]
"""A word of an argument list or an environment. Linux takes 128 KiB (MAX_ARG_STRLEN)."""


class ProcessConfig(BaseModel):
    """The field `config` of an image's configuration."""

    User: str | None = None
    Env: list[_Text] | None = None
    Entrypoint: list[_Text] | None = None
    Cmd: list[_Text] | None = None
    WorkingDir: str | None = None
    ExposedPorts: dict[str, object] | None = None
    Volumes: dict[str, object] | None = None
    StopSignal: str | None = None


class RootFs(BaseModel):
    diff_ids: list[Digest] = Field(default=[], max_length=MOST_LAYERS)


class Config(BaseModel):
    architecture: str = ""
    os: str = ""
    config: ProcessConfig | None = None
    rootfs: RootFs = RootFs()

    @property
    def process(self) -> ImageProcess:
        """Return what the image says about its process. Raises ValidationError for values out of bounds."""
        given = self.config or ProcessConfig()
        return ImageProcess(
            entrypoint=given.Entrypoint or [],
            command=given.Cmd or [],
            env=given.Env or [],
            user=given.User or "",
            directory=given.WorkingDir or "/",
            ports=sorted(given.ExposedPorts or {}),
            volumes=sorted(given.Volumes or {}),
            stop_signal=given.StopSignal or "SIGTERM",
        )

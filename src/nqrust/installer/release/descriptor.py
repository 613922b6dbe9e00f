"""`release.json`: everything the installer knows about a platform release. The installer never imports a release.

A release is a set of artifacts (files with size and sha256) and a set of components (programs that run). The bundled release
and upstream's releases differ only in their descriptor.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SCHEMA = 1


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ComponentKind(str, Enum):
    python = "python"  # wheels in the release's virtual environment; `start` names its console script
    binary = "binary"  # one static executable
    node = "node"  # an archive unpacked into its own folder, started with node


def _places(*names: str) -> Callable[[str], str]:
    """Return a check that a text can be filled in with these names, and stays one line of a file."""

    def check(text: str) -> str:
        try:
            text.format(**dict.fromkeys(names, ""))
        except (KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"it names a place that nqr does not know: {error}") from error
        if "\n" in text or "\r" in text:
            raise ValueError("it is longer than a line")
        return text

    return check


class Artifact(Model):
    """A file of the release. `name` is relative to the release's root, `/`-separated, and never leaves it."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+/-]*$")
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    os: str = "linux"
    arch: str = "x86_64"
    url: str | None = None


class Component(Model):
    """One installed program, which also runs if it has `start`.

    `requirements`: for kind python, the hash-locked requirement files (artifact names) of its virtual environment. `start`: argv,
    with `{bin}`, `{release}` filled in. `env_file`: basename below CONFIG_DIR. `port_variable`: the variable of that file with
    ADDRESS:PORT (or the port). `health`: path that answers 200 when ready, None if none. `migrate`: argv that updates the
    database and exits, None if the component does so at start.
    """

    name: Literal["manager", "agent", "guest-agent", "ui"]
    kind: ComponentKind
    artifact: str | None = None
    requirements: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    env_file: str | None = None
    port_variable: str | None = None
    health: str | None = None
    migrate: tuple[str, ...] | None = None
    run_as: Literal["root", "service"] = "service"
    packages: tuple[str, ...] = ()


class Privilege(Model):
    """A command that a service user may run as root: sudo matches `argv` whole. The bundled release declares none.

    `argv` starts with an absolute path; `{libexec}` and `{bin}` are filled in. `arguments`: a POSIX extended regular expression
    for all arguments together, in place of further words; `{vms}`, `{images}` and `{bin}` are filled in, quoted. sudo knows
    such expressions since 1.9.10. Braces of the expression itself are doubled.
    """

    user: Literal["service", "root"] = "service"
    component: Literal["manager", "agent"]
    argv: tuple[Annotated[str, AfterValidator(_places("libexec", "bin"))], ...] = Field(min_length=1)
    arguments: Annotated[str, AfterValidator(_places("vms", "images", "bin"))] | None = Field(
        default=None, pattern=r"^\^[^\r\n#]*\$$"
    )
    why: str = Field(pattern=r"^[^\r\n]*$")


class ImageSource(Model):
    """An image that the release needs in /srv/images. `build`: the recipe that makes it on the host; otherwise `artifact`."""

    name: str
    build: Literal["tiny", "container-runtime"] | None = None
    artifact: str | None = None


class Release(Model):
    """The descriptor. `form`: `bundled` speaks nqr's API and reads bootstrap.json; `upstream` does not."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    form: Literal["bundled", "upstream"]
    version: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+~-]*$")
    components: tuple[Component, ...]
    artifacts: tuple[Artifact, ...] = ()
    privileges: tuple[Privilege, ...] = ()
    images: tuple[ImageSource, ...] = ()
    database_extensions: tuple[str, ...] = ()
    database_role_attributes: tuple[Literal["CREATEROLE", "CREATEDB"], ...] = ()
    min_postgres: int = 13

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def component(self, name: str) -> Component | None:
        return next((c for c in self.components if c.name == name), None)

"""nqr image import: a cloud image from the catalogue, a file or a URL."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, installed_settings, manager
from nqrust.cli.failures import choice, require_root
from nqrust.contract.paths import IMAGE_CATALOGUE
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.host.port import Host
    from nqrust.image.cloud.catalogue import CloudImage
    from nqrust.image.cloud.importing import Imported
    from nqrust.image.progress import Progress

_FORMATS = ("qcow2", "raw", "vmdk")


def build(app: typer.Typer) -> None:
    app.command("import", help="Make an image from a cloud image: a name in the catalogue, a file or a URL.")(import_)


def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new image.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Name in the catalogue such as debian:13, file, or URL.")],
    format: Annotated[
        str | None, typer.Option("--format", metavar="qcow2|raw|vmdk", help="Format of the disk image (default: detected).")
    ] = None,
    checksum: Annotated[
        str | None, typer.Option("--checksum", metavar="HEX", help="SHA-256 or SHA-512 digest. Required for a URL.")
    ] = None,
    agent: Annotated[
        bool, typer.Option("--agent/--no-agent", help="Add the guest agent to an ext4 image (default: yes).")
    ] = True,
    own: Annotated[
        str | None,
        typer.Option("--catalogue", metavar="FILE", help="Catalogue of cloud images to use (JSON)."),
    ] = None,
    url: ManagerUrl = None,
) -> None:
    require_root("image import")
    with manager(url) as client:
        made = into(client, name, source, format=format, checksum=checksum, agent=agent, own=own)
    typer.echo(f"imported {name}: {output.size(made.manifest.rootfs.size)} in {installed_settings().layout.image_dir}/{name}")


def into(client: ManagerClient, name: str, source: str | CloudImage, **options: Any) -> Imported:
    """Make the image and register it. For `source` and `options` see `make`."""
    from nqrust.client import calls

    made = make(name, source, **options)
    client.send(calls.scan_images())
    return made


def make(
    name: str,
    source: str | CloudImage,
    *,
    format: str | None = None,
    checksum: str | None = None,
    agent: bool = True,
    own: str | None = None,
) -> Imported:
    """Make the image in the image folder of this host. For the parameters see the options of `nqr image import`. An entry of the
    catalogue is fetched from its publisher, whatever files there are. Raises UsageError NQR-USE-003, NQR-USE-007, ImageError."""
    from nqrust.contract.images import IMAGE_NAME_PATTERN
    from nqrust.host.local import LocalHost
    from nqrust.image.cloud import importing

    if format is not None:
        choice("--format", format, _FORMATS)
    if not re.fullmatch(IMAGE_NAME_PATTERN, name):
        raise UsageError(
            "NQR-USE-003",
            f"An image cannot be named “{name}”.",
            "Use at most 64 lower-case letters, digits, dots and dashes.",
        )
    layout, host = installed_settings().layout, LocalHost()

    def tell(text: str, fraction: float | None) -> None:
        if text:
            output.say(f"  {text}", err=True)

    listed = own or _catalogue_of(host)
    get, description = _source(host, source, checksum, listed and os.path.abspath(listed), tell)
    made = importing.build(
        host,
        source=get,
        target_dir=f"{layout.image_dir}/{name}",
        name=name,
        description=description,
        format=format,
        guest_agent=f"{layout.bin_dir}/guest-agent" if agent else None,
        progress=tell,
    )
    _warn(made, agent)
    return made


def of_catalogue(reference: str) -> CloudImage | None:
    """Return the entry of this name or alias in the catalogue of this host. Raises ImageError NQR-IMG-060."""
    from nqrust.host.local import LocalHost
    from nqrust.image.cloud import catalogue

    host = LocalHost()
    return catalogue.resolve(reference, catalogue.read(host, _catalogue_of(host)))


def _catalogue_of(host: Host) -> str | None:
    path = f"{installed_settings().layout.config_dir}/{IMAGE_CATALOGUE}"
    return path if host.exists(path) else None


def _source(
    host: Host, source: str | CloudImage, checksum: str | None, catalogue_file: str | None, tell: Progress
) -> tuple[Callable[[str], None], str]:
    """Return how to get the disk image, and a description. A name in the catalogue goes before a file: another user may own the
    working folder."""
    from nqrust.image.cloud import catalogue, fetching

    if not isinstance(source, str):
        return catalogue.fetch(host, source, tell), source.description
    if checksum is not None and not re.fullmatch(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{128}", checksum):
        raise UsageError("NQR-USE-003", "--checksum is neither a SHA-256 nor a SHA-512 digest.", "Give 64 or 128 hex digits.")
    if source.lower().startswith(("http://", "https://")):
        if checksum is None:
            raise UsageError(
                "NQR-USE-007", "An image from a URL needs its checksum.", "Add --checksum with the publisher's digest."
            )
        return fetching.from_url(host, source, checksum, tell), ""
    if "/" not in source:
        known = catalogue.read(host, catalogue_file)
        found = catalogue.resolve(source, known)
        if found is not None:
            return catalogue.fetch(host, found, tell), found.description
        if not os.path.exists(source):
            names = ", ".join(one.name for one in known.images)
            raise UsageError("NQR-USE-003", f"{source} is neither a file nor in the catalogue.", f"The catalogue has: {names}.")
    return fetching.from_file(host, os.path.abspath(source), checksum, tell), ""


def _warn(made: Imported, agent: bool) -> None:
    if made.not_firecracker:
        output.say(f"  Boots under QEMU only: {made.not_firecracker}.", err=True)
    if made.unsure:
        typer.echo("  The image does not tell the drivers of its kernel. Nobody knows yet whether it boots.", err=True)
    if agent and not made.guest_agent:
        typer.echo("  The image has no guest agent: `nqr vm exec` does not work, and its VMs report no address.", err=True)

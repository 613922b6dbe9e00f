"""nqr image: list, show, add, pull, build, import, scan, rm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import image_import, output, pulling
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.failures import choice, require_root
from nqrust.cli.output import Output, Quiet
from nqrust.contract.text import plain
from nqrust.installer.engine.errors import NqrError, UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.images import Image, ImageList

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the image.")]
Known = Annotated[str, typer.Argument(metavar="NAME", help="Name of the image, or the reference that it was pulled from.")]


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the images.")(ls)
    app.command("show", help="Show the details of an image.")(show)
    app.command("add", help="Register an image from the manager's host or from a URL.")(add)
    app.command("pull", help="Pull a container image from a registry.")(pulling.pull)
    app.command("build", help="Build an image on this host from the distribution's packages.")(build_image)
    image_import.build(app)
    app.command("scan", help="Register new images in the image folder.")(scan)
    app.command("rm", help="Remove images from the registry.")(rm)
    return app


def ls(out: Output = "text", quiet: Quiet = False, url: ManagerUrl = None) -> None:
    out = output.chosen(out, quiet)
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.list_images())
    _list(found, out)


def show(name: Known, out: Output = "text", url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.get_image(_name(client, name)))
    _print(found, out)


def add(
    name: Name,
    path: Annotated[
        str | None,
        typer.Option("--path", metavar="DIR", help="Folder with an image.json on the manager's host."),
    ] = None,
    from_url: Annotated[str | None, typer.Option("--url", metavar="URL", help="URL of the image's image.json.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", metavar="HEX", help="SHA-256 digest of that image.json.")] = None,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    if (path is None) == (from_url is None):
        raise UsageError(
            "NQR-USE-007",
            "`nqr image add` needs one of --path and --url.",
            "For example: nqr image add mine --path /srv/images/mine",
        )
    if from_url is not None and sha256 is None:
        raise UsageError(
            "NQR-USE-007",
            "An image from a URL needs its digest.",
            "Add --sha256 with the hex digest from the publisher.",
        )
    if from_url is None and sha256 is not None:
        raise UsageError(
            "NQR-USE-007",
            "--sha256 is for an image from a URL. A folder has its digests in image.json.",
            "Leave --sha256 out, or give --url instead of --path.",
        )
    from pydantic import ValidationError

    from nqrust.contract.images import ImageAdd

    try:
        asked = ImageAdd(name=name, path=os.path.abspath(path) if path else None, url=from_url, sha256=sha256)
    except ValidationError as error:
        raise UsageError(
            "NQR-USE-003",
            f"An image cannot be named “{name}”.",
            "Use at most 64 lower-case letters, digits, dots and dashes.",
        ) from error
    with manager(url) as client:
        found = client.send(calls.add_image(asked))
    _print(found, out)


def build_image(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Image to build: tiny or container-runtime.")] = "tiny",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    require_root("image build")
    choice("NAME", name, ("tiny", "container-runtime"))
    from nqrust.cli.install.gathering import recall

    recall()
    from nqrust.cli.connection import installed_settings
    from nqrust.contract.paths import CACHE_DIR
    from nqrust.host.local import LocalHost
    from nqrust.image import container, tiny

    layout = installed_settings().layout

    def tell(text: str, fraction: float | None) -> None:
        if text:
            output.say(f"  {text}", err=True)

    build = container.build if name == container.NAME else tiny.build
    manifest = build(
        LocalHost(),
        target_dir=f"{layout.image_dir}/{name}",
        guest_agent=f"{layout.bin_dir}/guest-agent",
        cache_dir=f"{CACHE_DIR}/image",
        name=name,
        progress=tell,
    )
    with manager(url) as client:
        client.send(calls.scan_images())
    typer.echo(f"built {name}: {output.size(manifest.rootfs.size)} in {layout.image_dir}/{name}")


def scan(out: Output = "text", url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.scan_images())
    _list(found, out)


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names or references of the images.")],
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    with manager(url) as client, output.Done(out) as done:
        for name in names:
            found = _name(client, name)
            client.send(calls.delete_image(found))
            done(found, f"removed {found}")


def _name(client: ManagerClient, given: str) -> str:
    """Return the name of the image that was pulled from the reference `given`, or `given` itself. Raises NqrError NQR-USE-090,
    ImageError NQR-IMG-060."""
    if not pulling.is_reference(given):
        return given
    found = pulling.known(client, given)
    if found is None:
        raise NqrError("NQR-USE-090", f"No image was pulled from {plain(given)}.", "List the images with: nqr image ls")
    return found.name


def _list(found: ImageList, out: str) -> None:
    output.listing(
        found,
        out,
        ("name", "state", "size", "memory", "created", "description", "arch", "disk", "id"),
        [
            (
                i.name,
                i.state,
                output.size(i.size),
                f"{i.min_memory_mib} MiB",
                i.created_at,
                i.description,
                i.arch,
                f"{i.min_disk_mib} MiB",
                i.id,
            )
            for i in found.items
        ],
        wide=3,
        empty="There is no image. Build one with: nqr image build tiny",
    )


def _print(found: Image, out: str) -> None:
    output.details(
        found,
        out,
        [
            ("id", found.id),
            ("name", found.name),
            ("description", found.description),
            ("state", found.state),
            ("arch", found.arch),
            ("size", output.size(found.size)),
            ("sha256", found.sha256),
            *(
                [
                    ("pulled from", found.origin),
                    ("digest", found.digest),
                ]
                if found.origin
                else []
            ),
            *_process(found),
            ("needs memory", f"{found.min_memory_mib} MiB"),
            ("needs disk", f"{found.min_disk_mib} MiB"),
            ("created", found.created_at),
            *([("error", found.error)] if found.error else []),
        ],
    )


def _process(found: Image) -> list[tuple[str, object]]:
    process = found.manifest.process
    if process is None:
        return []
    return [
        ("entrypoint", " ".join(process.entrypoint)),
        ("command", " ".join(process.command)),
        ("user", process.user or "root"),
        ("directory", process.directory),
        ("ports", process.ports),
        ("volumes", process.volumes),
        ("stop signal", process.stop_signal),
    ]

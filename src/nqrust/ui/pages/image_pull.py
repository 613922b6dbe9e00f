"""Pulls of container images: the dialog, and the image for a new VM."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui
from pydantic import ValidationError

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient
from nqrust.contract.images import Download, Image, ImagePull
from nqrust.ui import format as fmt
from nqrust.ui.fields import Wrong
from nqrust.ui.forms import FormDialog
from nqrust.ui.remaining import Remaining

_EVERY = 1.0
CLOUD = "For a cloud image, run sudo nqr image pull debian:13 on the manager's host."


def progress(name: str, got: Download, remaining: Remaining) -> str:
    """Return what a download does now, the bytes, and the time left as far as it is known."""
    amount = f"{fmt.size(got.done)} of {fmt.size(got.total)}" if got.total else ""
    said = ": ".join(part for part in (got.step, amount) if part)
    left = remaining.seconds(name, got.done, got.total)
    return f"{said}, {fmt.duration(max(1, left))} left" if left is not None else said


def request(reference: str | None, name: str | None = None, insecure: bool = False) -> ImagePull:
    """Return the request of these fields. Raises Wrong and ValidationError."""
    wanted = (reference or "").strip()
    if not wanted:
        raise Wrong("Enter a container image, such as nginx:alpine.")
    try:
        return ImagePull(reference=wanted, name=(name or "").strip() or None, tls_verify=not insecure)
    except ValidationError as error:
        if error.errors()[0]["loc"][0] == "name":
            raise Wrong(f"{(name or '').strip()} is no usable name. Write one such as nginx-1.") from error
        raise


def open_pull(manager: AsyncManagerClient, after: Callable[[], Awaitable[None]]) -> None:
    """Open the dialog that begins a pull. `after`: called once it has begun."""
    with FormDialog("Pull a container image", CLOUD) as form:
        reference = ui.input("Container image", placeholder="nginx:alpine").props("autocomplete=off autocapitalize=none")
        reference.props('hint="Without a registry: docker.io. Without a tag: latest" hide-bottom-space')
        name = ui.input("Name (default: from the image)").props("autocomplete=off autocapitalize=none")
        insecure = ui.switch("Accept plain HTTP and any certificate of the registry")

    async def pull() -> None:
        image = await manager.send(calls.pull_image(request(reference.value, name.value, bool(insecure.value))))
        form.done(f"Pulling {image.name}.")
        await after()

    form.open("Pull", pull)


async def present(
    manager: AsyncManagerClient, reference: str | None, tell: Callable[[str], None], wanted: Callable[[], bool]
) -> str | None:
    """Return the name of the ready image of a reference. Pull it if the manager does not have it.

    `tell` gets the progress. None: `wanted` became false meanwhile; the pull continues. Raises ClientError, ValidationError and
    Wrong.
    """
    asked = request(reference)
    known = await manager.send(calls.list_images(asked.reference))
    ready = next((image.name for image in known.items if image.state == "ready"), None)
    if ready is not None:
        return ready
    remaining = Remaining()
    image: Image = await manager.send(calls.pull_image(asked))
    while image.download is not None or image.state == "downloading":
        tell(f"{image.name}: {progress(image.name, image.download, remaining)}" if image.download else f"Pulling {image.name}.")
        await asyncio.sleep(_EVERY)
        if not wanted():
            return None
        image = await manager.send(calls.get_image(image.name))
    if image.state != "ready" or image.error:
        raise Wrong(f"{asked.reference} was not pulled. {image.error.rstrip('.') or f'The image is {image.state}'}.")
    return image.name if wanted() else None

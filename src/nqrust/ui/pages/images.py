"""The image registry: list, add, scan, remove."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient, ClientError
from nqrust.contract.auth import Role
from nqrust.contract.images import CloudImageList, Image, ImageAdd, ImageList
from nqrust.contract.text import argument
from nqrust.ui import format as fmt
from nqrust.ui import parts, session
from nqrust.ui.fields import Wrong
from nqrust.ui.forms import FormDialog
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.pages.image_pull import open_pull, progress
from nqrust.ui.remaining import Remaining
from nqrust.ui.still import still
from nqrust.ui.tables import BADGE, Column, Listing, Row, button

_NAME = """<span class="name">{{ props.row.name }}</span><div class="muted small">{{ props.row.description }}</div>"""
_HOW = """<div class="fetching" v-if="props.row.fetched !== null"><div class="bar" role="progressbar"
:aria-label="'Download of ' + props.row.name" aria-valuemin="0" aria-valuemax="100" :aria-valuenow="props.row.fetched">
<i :style="{width: props.row.fetched + '%'}"></i></div><span class="muted small nowrap">{{ props.row.fetched_text }}</span></div>
<div class="small bad-text" v-if="props.row.error">{{ props.row.error }}</div>"""
_IMPORT = "An administrator imports them on the manager's host, as root. The form of a new VM then lists the image."
_STATE = BADGE + _HOW
_CARD = f"""<div class="top"><div class="grow">{_NAME}</div>{BADGE}</div>{_HOW}
<div class="muted small">{{{{ props.row.size_text }}}} · needs {{{{ props.row.least }}}}</div>"""


def row(image: Image, remaining: Remaining) -> Row:
    """Return an image's table row. `fetched`: whole percent; None without a download."""
    got = image.download
    return {
        "fetched": int(100 * fmt.share(got.done, got.total)) if got else None,
        "fetched_text": progress(image.name, got, remaining) if got else "",
        "new": image.state == "downloading",
        "error": image.error,
        "name": image.name,
        "description": image.description,
        "state": image.state,
        "tone": fmt.tone(image.state),
        "size": image.size,
        "size_text": fmt.size(image.size),
        "sum": image.sha256[:12],
        "whole_sum": image.sha256,
        "least": f"{fmt.mib(image.min_memory_mib)} memory",
        "age": fmt.ago(image.created_at),
        "created": image.created_at.isoformat(),
    }


@ui.page("/images")
def images(request: Request) -> RedirectResponse | None:
    me = entrance(request)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)
    may_act = me.may(Role.operator)

    async def same(name: str, shown: Image | None) -> bool:
        return shown is not None and await still(name, manager.send(calls.list_images()), lambda one: one.id == shown.id)

    def listed(name: str) -> Image | None:
        return next((one for one in live.data.items if one.name == name), None) if live.data else None

    async def remove(name: str) -> None:
        shown = listed(name)
        if await parts.confirm(
            f"Remove {name}?", "You cannot remove an image that a VM uses. Removing it stops its download.", "Remove"
        ) and await same(name, shown):
            await parts.carry_out(manager.send(calls.delete_image(name)), f"{name} is removed.", live.refresh)

    async def cancel(name: str) -> None:
        shown, sentence = listed(name), "The files that came so far are removed."
        if await parts.confirm(f"Cancel {name}?", sentence, "Cancel download") and await same(name, shown):
            await parts.carry_out(manager.send(calls.delete_image(name)), f"{name} is cancelled.", live.refresh)

    async def scan() -> None:
        scanning.props("loading")
        try:
            found = await manager.send(calls.scan_images())
        except ClientError as error:
            parts.failed(error)
            return
        finally:
            scanning.props(remove="loading")
        parts.done(f"{fmt.count(found.total, 'image')} in the registry.")
        await live.refresh()

    async def add() -> None:
        await _add(manager, live)

    async def catalogue() -> None:
        try:
            found = await manager.send(calls.list_cloud_images())
        except ClientError as error:
            parts.failed(error)
            return
        show_catalogue(found)

    def pull() -> None:
        open_pull(manager, live.refresh)

    def build(data: ImageList) -> Callable[[ImageList], None]:
        listing = Listing(
            [
                Column("name", "Name", _NAME, sort="name"),
                Column("state", "State", _STATE, sort="state"),
                Column("size", "Size", "{{ props.row.size_text }}", sort="size"),
                Column("least", "Needs"),
                Column("sum", "SHA-256", '<span class="mono" :title="props.row.whole_sum">{{ props.row.sum }}</span>'),
                Column("age", "Added", '<span class="muted nowrap">{{ props.row.age }}</span>', sort="created"),
            ],
            key="name",
            card=_CARD,
            card_foot='<span class="mono muted">{{ props.row.sum }}</span>',
            handlers={"remove": remove, "cancel": cancel},
            actions=(
                button("close", "Cancel", "cancel", "name", shown="props.row.new")
                + button("delete_outline", "Remove", "remove", "name", shown="!props.row.new", danger=True)
            )
            if may_act
            else "",
        )

        remaining = Remaining()

        def update(fresh: ImageList) -> None:
            remaining.keep({image.name for image in fresh.items if image.download})
            listing.show([row(image, remaining) for image in fresh.items])

        update(data)
        return update

    with frame(me, "/images", "Images"):
        with head("Images"), parts.box("actions"):
            parts.quiet("Cloud images", catalogue, icon="cloud_queue")
            if may_act:
                scanning = parts.quiet("Scan", scan, icon="refresh")
                parts.quiet("Add image", add, icon="add")
                parts.primary("Pull image", pull, icon="download")
        live = Live(
            lambda: manager.send(calls.list_images()),
            build,
            empty=lambda data: not data.items,
            when_empty=lambda: parts.nothing_yet(
                "album",
                "No images yet",
                "An image is a root file system with its kernel. Scan registers the images in the image folder.",
                "Pull image" if may_act else "",
                pull if may_act else None,
            ),
        )
    return None


def show_catalogue(found: CloudImageList) -> None:
    """Show the cloud images in a dialog, each with the command that imports it."""
    dialog, card = parts.sheet()
    with card:
        parts.text("Cloud images", tag="h2")
        parts.text(_IMPORT, "muted", tag="p")
        for one in found.items:
            with parts.box("full"):
                parts.text(one.description or one.name, "name")
                parts.text(f"sudo nqr image pull {argument(one.name)}", "mono small")
        with parts.box("buttons"):
            parts.quiet("Close", dialog.close).props("autofocus")
    dialog.on("hide", dialog.delete)
    dialog.open()


async def _add(manager: AsyncManagerClient, live: Live[ImageList]) -> None:
    with FormDialog("Add an image") as form:
        source = ui.toggle({"path": "Folder", "url": "URL"}, value="path").props("no-caps unelevated spread")
        name = ui.input("Name", placeholder="debian-12").props("autocomplete=off autocapitalize=none")
        path = ui.input("Folder", placeholder="/srv/images/debian-12").bind_visibility_from(source, "value", value="path")
        path.props('hint="Folder on the manager with image.json and its files" hide-bottom-space')
        url = (
            ui.input("URL", placeholder="https://…/image.json")
            .props("autocomplete=off inputmode=url")
            .bind_visibility_from(source, "value", value="url")
        )
        checksum = ui.input("SHA-256 of image.json").classes("mono").bind_visibility_from(source, "value", value="url")
        checksum.props('autocomplete=off hint="Verifies image.json and its files" hide-bottom-space')

    async def add() -> None:
        by_path = source.value == "path"
        where, vouched = ((path if by_path else url).value or "").strip(), (checksum.value or "").strip()
        if not where:
            raise Wrong("Enter the image folder.")
        if not by_path and not vouched:
            raise Wrong("An image from a URL needs the SHA-256 of its image.json.")
        place = {"path": where} if by_path else {"url": where, "sha256": vouched}
        added = await manager.send(calls.add_image(ImageAdd.model_validate({"name": (name.value or "").strip(), **place})))
        form.done(f"{added.name} is downloading." if added.state == "downloading" else f"{added.name} is added.")
        await live.refresh()

    form.open("Add", add)

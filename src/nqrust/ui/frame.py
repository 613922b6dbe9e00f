"""The frame of every page: navigation, user, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui
from nicegui.element import Element

from nqrust.contract.auth import Role
from nqrust.ui import parts, session
from nqrust.ui.account import account_menu
from nqrust.ui.session import SignedIn

NAME = "NQRust-MicroVM"
_PLACES: tuple[tuple[str, str, str, Role], ...] = (
    ("/", "space_dashboard", "Overview", Role.viewer),
    ("/vms", "dns", "VMs", Role.viewer),
    ("/templates", "copy_all", "Templates", Role.viewer),
    ("/images", "album", "Images", Role.viewer),
    ("/volumes", "storage", "Volumes", Role.viewer),
    ("/hosts", "memory", "Hosts", Role.viewer),
    ("/events", "history", "Events", Role.viewer),
    ("/api-reference", "api", "API reference", Role.viewer),
    ("/access", "group", "Users and tokens", Role.admin),
    ("/audit", "fact_check", "Audit", Role.admin),
)
_logo = (files("nqrust.ui") / "resources" / "favicon.svg").read_text(encoding="utf-8")


def entrance(request: Request, role: Role = Role.viewer) -> SignedIn | RedirectResponse:
    """Return the user, or the page to go to: sign-in, or home if the page is not for this user."""
    me = session.current()
    if me is None:
        return RedirectResponse(f"/sign-in?to={quote(request.url.path, safe='/')}", status_code=303)
    return me if me.may(role) else RedirectResponse("/", status_code=303)


def brand() -> None:
    with ui.element("a").props('href="/"').classes("brand"):
        ui.html(_logo, sanitize=False)
        parts.text(NAME, tag="span")


class Drawer(Element):
    """The navigation: beside the page on wide screens, otherwise over it on demand.

    NiceGUI's own drawer keeps its state on the server and stays open over the page when a window narrows. Quasar's QDrawer alone
    behaves correctly.
    """

    def __init__(self) -> None:
        layout = ui.context.client.layout
        with layout:
            super().__init__("q-drawer")
        self.props("show-if-above side=left width=232 breakpoint=1023")
        view = str(layout.props["view"])
        layout.props["view"] = f"{view[:4]}L{view[5:]}"  # L: as high as the window, and stays when the page scrolls
        containers = [at for at, child in enumerate(layout.default_slot.children) if child.tag == "q-page-container"]
        self.move(target_index=containers[0] if containers else 0)

    def toggle(self) -> None:
        self.run_method("toggle")


def set_colours() -> ui.dark_mode:
    ui.colors(primary="#1f6f5c", positive="#17734a", negative="#ab2b23", warning="#8a5a00", info="#2360a5")
    return ui.dark_mode(value=session.dark())


@contextmanager
def frame(me: SignedIn, here: str, title: str) -> Iterator[None]:
    """Build the page's frame; elements created inside go into its content column."""
    dark = set_colours()
    ui.page_title(f"{title} · {NAME}")
    drawer = Drawer()
    with drawer, parts.box("side", "nav").props('aria-label="Main"'):
        brand()
        for path, icon, label, role in _PLACES:
            if me.may(role):
                with ui.element("a").props(f'href="{path}"').classes("nav") as link:
                    ui.icon(icon)
                    parts.text(label, tag="span")
                if path == here:
                    link.classes("here").props('aria-current="page"')
        parts.box("spacer")
        with parts.box("who"):
            account_menu(me)
            parts.icon_button("contrast", "Light or dark", lambda: _turn(dark))
    with ui.header().classes("topbar"):
        parts.icon_button("menu", "Menu", drawer.toggle)
        brand()
    with parts.box("page"):
        yield


async def _turn(dark: ui.dark_mode) -> None:
    """Switch from the current mode to the other, permanently."""
    if dark.value is None:
        seen = bool(await ui.run_javascript("document.body.classList.contains('body--dark')", timeout=3))
    else:
        seen = dark.value
    dark.value = not seen
    session.choose_dark(not seen)


def head(title: str) -> Element:
    """Build the title row; buttons created inside go to its right."""
    row = parts.box("head")
    with row:
        parts.text(title, tag="h1")
    return row

"""The account menu: the user's name, the password, signing out."""

from __future__ import annotations

from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import ClientError
from nqrust.ui import parts, session
from nqrust.ui.fields import Wrong, new_password
from nqrust.ui.forms import FormDialog
from nqrust.ui.session import SignedIn


def account_menu(me: SignedIn) -> None:
    """A button with the user's name that opens the menu."""
    with ui.button(color=None).props(f'flat no-caps align=left aria-label="Account of {me.username}"').classes("account grow"):
        with parts.box("grow"):
            parts.text(me.username, "name break")
            parts.text(me.role.value, "muted small")
        ui.icon("unfold_more").classes("muted")
        with ui.menu().props("anchor='top left' self='bottom left' fit :offset=\"[0, 4]\""):
            _entry("key", "Change password", lambda: change_password(me))
            _entry("logout", "Sign out", _sign_out)


def _entry(icon: str, label: str, on_click: parts.Handler) -> None:
    with ui.menu_item(on_click=on_click).props("role=menuitem").classes("entry-line"):
        ui.icon(icon)
        parts.text(label, tag="span")


def change_password(me: SignedIn) -> None:
    """Open a form for the user's own password."""
    with FormDialog("Change your password", "You stay signed in here. All your other sessions end.") as form:
        ui.input("User name", value=me.username).props("readonly autocomplete=username").classes(
            "hidden"
        )  # for password managers
        current = ui.input("Current password", password=True, password_toggle_button=True)
        current.props("autocomplete=current-password autofocus")
        new, again = new_password(), new_password("Confirm new password", told=False)

    async def change() -> None:
        if not current.value:
            raise Wrong("Enter your current password.")
        if new.value != again.value:
            raise Wrong("The two new passwords differ.")
        async with session.turn():
            await session.connect(me.token).send(calls.change_password(current.value, new.value or ""))
        form.done("Password changed.")

    form.open("Change", change)


async def _sign_out() -> None:
    me = session.current()
    session.forget()
    if me is not None:
        try:
            await session.connect(me.token).send(calls.logout())
        except ClientError:
            pass  # the token expires
    ui.navigate.to("/sign-in")

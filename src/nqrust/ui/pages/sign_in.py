"""Sign in."""

from __future__ import annotations

import asyncio

from fastapi.responses import RedirectResponse
from nicegui import ui
from nicegui.events import GenericEventArguments

from nqrust.client.manager import ClientError, Refused
from nqrust.ui import format as fmt
from nqrust.ui import frame, parts, session
from nqrust.ui.forms import Trouble

# The submission has the fields with it: before a page has its connection, NiceGUI keeps no order between its events.
_WITH_FIELDS = "event => emit(Object.fromEntries(new FormData(event.target)))"


@ui.page("/sign-in", title=f"Sign in · {frame.NAME}")
async def sign_in(to: str = "/") -> RedirectResponse | None:
    """`to`: the originally requested path."""
    target = fmt.safe_path(to)
    if session.current() is not None:
        return RedirectResponse(target, status_code=303)
    await session.renew()
    frame.set_colours()
    with parts.box("signin"), parts.box("card", "form") as form:
        frame.brand()
        ui.input("User name").props("autocomplete=username autofocus autocapitalize=none name=username").classes("full")
        password = ui.input("Password", password=True, password_toggle_button=True).classes("full")
        password.props("autocomplete=current-password name=password")
        trouble = Trouble()
        button = ui.button("Sign in").classes("full").props("type=submit")
        parts.text("The installer's summary shows where the first password is.", "muted small")

        asking = asyncio.Lock()

        async def submit(event: GenericEventArguments) -> None:
            sent = event.args if isinstance(event.args, dict) else {}  # a stranger's program sends anything
            typed = {field: str(sent.get(field, "")) for field in ("username", "password")}
            if asking.locked():  # a browser does not send twice, but others do
                return
            trouble.clear_away()
            if not all(typed.values()):
                trouble.say("Enter a user name and a password.")
                return
            button.props("loading")
            try:
                async with asking, session.turn():
                    found = await session.connect().login(typed["username"].strip(), typed["password"])
            except ClientError as error:
                wrong = isinstance(error, Refused) and error.status in (400, 401, 403, 422)
                trouble.say("Wrong user name or password." if wrong else parts.explain(error))
                password.value = ""
                password.run_method("focus")
                return
            finally:
                button.props(remove="loading")
            session.keep(found)
            ui.navigate.to(target)

        form.on("submit.prevent", submit, js_handler=_WITH_FIELDS)
    return None

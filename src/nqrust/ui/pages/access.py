"""Users and API tokens. For administrators."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient
from nqrust.contract.auth import TOKEN_DAYS, Role, Token, TokenCreate, TokenList, User, UserCreate, UserList, UserUpdate
from nqrust.ui import format as fmt
from nqrust.ui import parts, session
from nqrust.ui.fields import new_password
from nqrust.ui.forms import FormDialog
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.tables import Column, Listing, Row, button

_ROLES = {"viewer": "viewer – looks", "operator": "operator – VMs, images, hosts", "admin": "admin – everything"}
_LIFE = {86400: "a day", 30 * 86400: "30 days", 90 * 86400: "90 days", 365 * 86400: "a year", 0: "never"}
_AGE = '<span class="muted nowrap">{{ props.row.age }}</span>'


def user_row(user: User, me: str) -> Row:
    return {
        "id": user.id,
        "name": user.username,
        "role": user.role.value,
        "age": fmt.ago(user.created_at),
        "created": user.created_at.isoformat(),
        "mine": user.username == me,
    }


def token_row(token: Token) -> Row:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role.value,
        "age": fmt.ago(token.created_at),
        "created": token.created_at.isoformat(),
        "used": fmt.ago(token.last_used_at),
        "owner": token.owner or token.created_by or "unknown",
        "until": _until(token),
    }


def _until(token: Token) -> str:
    if token.expires_at is None:
        return "never"
    return fmt.clock(token.expires_at) + (" (expired)" if token.expires_at <= datetime.now(timezone.utc) else "")


@ui.page("/access")
def access(request: Request) -> RedirectResponse | None:
    me = entrance(request, Role.admin)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)

    def user(name: str) -> User | None:
        return next((user for user in users.data.items if user.username == name), None) if users.data else None

    async def change(name: str) -> None:
        if found := user(name):
            await _change_user(manager, found, name == me.username, users)

    async def remove_user(name: str) -> None:
        found = user(name)
        if found and await parts.confirm(f"Remove {name}?", "Their sessions, API tokens and join tokens end.", "Remove"):
            await parts.carry_out(manager.send(calls.delete_user(found.id)), f"{name} is removed.", users.refresh)

    async def revoke(token_id: str) -> None:
        name = next((t.name for t in tokens.data.items if t.id == token_id), "this token") if tokens.data else "this token"
        if await parts.confirm(
            f"Revoke {name}?", "The manager refuses programs that use it, and tokens that were created with it.", "Revoke"
        ):
            await parts.carry_out(manager.send(calls.delete_token(token_id)), f"{name} is revoked.", tokens.refresh)

    def build_users(data: UserList) -> Callable[[UserList], None]:
        listing = Listing(
            [
                Column("name", "User", '<span class="name">{{ props.row.name }}</span>', sort="name"),
                Column("role", "Role", sort="role"),
                Column("age", "Created", _AGE, sort="created"),
            ],
            key="name",
            handlers={"change": change, "remove": remove_user},
            card='<div class="top"><span class="name">{{ props.row.name }}</span><span class="tag">{{ props.row.role }}</span></div>',
            actions=button("edit", "Change", "change", "name")
            + button("delete_outline", "Remove", "remove", "name", "!props.row.mine", danger=True),
        )

        def update(fresh: UserList) -> None:
            listing.show([user_row(user, me.username) for user in fresh.items])

        update(data)
        return update

    def build_tokens(data: TokenList) -> Callable[[TokenList], None]:
        listing = Listing(
            [
                Column("name", "Token", '<span class="name">{{ props.row.name }}</span>', sort="name"),
                Column("role", "Role", sort="role"),
                Column("owner", "Owner", sort="owner"),
                Column("age", "Created", _AGE, sort="created"),
                Column("used", "Last used"),
                Column("until", "Expires"),
            ],
            key="id",
            handlers={"revoke": revoke},
            card='<div class="top"><span class="name">{{ props.row.name }}</span><span class="tag">{{ props.row.role }}</span></div>'
            '<div class="muted small">{{ props.row.owner }} · used {{ props.row.used }} · expires {{ props.row.until }}</div>',
            actions=button("delete_outline", "Revoke", "revoke", "id", danger=True, named="name"),
        )

        def update(fresh: TokenList) -> None:
            listing.show([token_row(token) for token in fresh.items])

        update(data)
        return update

    with frame(me, "/access", "Users and tokens"):
        with head("Users"), parts.box("actions"):
            parts.primary("Add user", lambda: _add_user(manager, users), icon="person_add")
        users = Live(lambda: manager.send(calls.users()), build_users, every=5.0)
        with head("API tokens"), parts.box("actions"):
            parts.primary("Create token", lambda: _add_token(manager, tokens), icon="key")
        tokens = Live(
            lambda: manager.send(calls.tokens()),
            build_tokens,
            empty=lambda data: not data.items,
            every=5.0,
            when_empty=lambda: parts.nothing_yet("key", "No tokens", "A token lets a program use the API with its own role."),
        )
    return None


async def _add_user(manager: AsyncManagerClient, live: Live[UserList]) -> None:
    with FormDialog("Add a user") as form:
        name = ui.input("User name").props("autocomplete=off autocapitalize=none")
        password = new_password("Password")
        role = ui.select(_ROLES, label="Role", value="viewer")

    async def add() -> None:
        wanted = UserCreate(username=(name.value or "").strip(), password=password.value or "", role=Role(role.value))
        await manager.send(calls.create_user(wanted))
        form.done(f"{wanted.username} can sign in.")
        await live.refresh()

    form.open("Add", add)


async def _change_user(manager: AsyncManagerClient, user: User, mine: bool, live: Live[UserList]) -> None:
    """Change role or password, or both. A user who changes their own password here must sign in again."""
    with FormDialog(f"Change {user.username}") as form:
        role = ui.select(_ROLES, label="Role", value=user.role.value)
        if mine:
            role.props('hint="Another administrator can change your role"').disable()
        password = new_password()
        parts.text(
            "Left empty, the password stays. A new one signs " + ("you" if mine else "them") + " out everywhere.",
            "muted small",
            tag="p",
        )

    async def save() -> None:
        chosen = Role(role.value) if not mine and role.value != user.role.value else None
        await manager.send(calls.update_user(user.id, UserUpdate(password=password.value or None, role=chosen)))
        form.done(f"{user.username} is changed.")
        await live.refresh()

    form.open("Save", save)


async def _add_token(manager: AsyncManagerClient, live: Live[TokenList]) -> None:
    with FormDialog("Create a token") as form:
        name = ui.input("Description", placeholder="monitoring")
        role = ui.select(_ROLES, label="Role", value="viewer")
        life = ui.select(_LIFE, label="Expires after", value=TOKEN_DAYS * 86400)
        parts.text(
            "The token belongs to you. It ends with your account and never has more rights than you.", "muted small", tag="p"
        )

    async def make() -> None:
        wanted = TokenCreate(name=(name.value or "").strip(), role=Role(role.value), ttl_seconds=life.value)
        made = await manager.send(calls.create_token(wanted))
        with form.instead() as close:
            parts.text(f"The token {made.name}", tag="h2")
            parts.text("Copy it now: it is shown only once.", "muted", tag="p")
            parts.text(made.token, "secret mono")
            with parts.box("buttons"):
                parts.quiet("Copy", lambda: ui.clipboard.write(made.token), icon="content_copy")
                parts.primary("Done", close)
        await live.refresh()

    form.open("Create", make)

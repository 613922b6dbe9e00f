"""nqr token: list, create, revoke."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

import typer

from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.failures import choice
from nqrust.cli.output import Document, Output, Quiet
from nqrust.contract.text import fault
from nqrust.installer.engine.errors import NqrError, UsageError

_ROLES = ("viewer", "operator", "admin")
_UNITS = {"m": 60, "h": 3600, "d": 86400}

Role = Annotated[
    str,
    typer.Option("--role", metavar="viewer|operator|admin", help="Role.", callback=lambda value: choice("--role", value, _ROLES)),
]


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the API tokens.")(ls)
    app.command("create", help="Create an API token.")(create)
    app.command("rm", help="Revoke an API token.")(rm)
    return app


def ls(out: Output = "text", quiet: Quiet = False, url: ManagerUrl = None) -> None:
    out = output.chosen(out, quiet)
    from nqrust.client import calls

    with manager(url) as client:
        found = client.send(calls.tokens())
    output.listing(
        found,
        out,
        ("name", "role", "owner", "expires", "last used", "id", "created", "created by"),
        [
            (t.name, t.role, t.owner or t.created_by, _expiry(t.expires_at), t.last_used_at, t.id, t.created_at, t.created_by)
            for t in found.items
        ],
        wide=2,
        empty="There is no API token.",
    )


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the token.")],
    role: Role = "viewer",
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME|never", help="Lifetime such as 12h or 30d (default: 90d).")
    ] = None,
    out: Document = "text",
    url: ManagerUrl = None,
) -> None:
    """Create an API token and print it. The manager does not show it again. The token of this host creates tokens of the
    installation; a user's token creates tokens of that user."""
    from pydantic import ValidationError

    from nqrust.client import calls
    from nqrust.contract.auth import Role, TokenCreate

    seconds = _seconds(expires)
    try:
        wanted = TokenCreate(name=name, role=Role(role), ttl_seconds=seconds)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--expires" if first["loc"][0] == "ttl_seconds" else "NAME"
        raise UsageError(
            "NQR-USE-003",
            f"{flag} cannot be “{expires if flag == '--expires' else name}”: {fault(first['msg'])}.",
            "See: nqr token create --help",
        ) from error
    with manager(url) as client:
        made = client.send(calls.create_token(wanted))
    if out != "text":
        output.document(made, out)
        return
    # Only the token goes to standard output, as with `nqr host token`.
    typer.echo(made.token)
    output.say(f"Token {made.name} has the role {made.role.value}. It expires: {_expiry(made.expires_at)}.", err=True)


def rm(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the token.")],
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    """Revoke an API token, and the tokens that were created with it."""
    from nqrust.client import calls

    with manager(url) as client, output.Done(out) as done:
        items = client.send(calls.tokens()).items
        found = [t for t in items if t.id == name] or [t for t in items if t.name == name]
        if not found:
            raise NqrError("NQR-USE-015", f"There is no token {name}.", "List the tokens with: nqr token ls")
        if len(found) > 1:
            raise UsageError("NQR-USE-015", f"{len(found)} tokens are named {name}.", "Pass the id, which `nqr token ls` shows.")
        client.send(calls.delete_token(found[0].id))
        done(found[0].name, f"revoked {name}", id=found[0].id)


def _seconds(text: str | None) -> int | None:
    """Convert `30d`, `12h`, `45m` to seconds, and `never` to 0. Raises UsageError NQR-USE-003."""
    if text is None:
        return None
    if text == "never":
        return 0
    digits, unit = text[:-1], text[-1:]
    if not digits.isascii() or not digits.isdigit() or unit not in _UNITS or int(digits) == 0:
        raise UsageError(
            "NQR-USE-003", f"--expires cannot be “{text}”: it must be a time or “never”.", "Write it as in 12h, 30d or never."
        )
    return int(digits) * _UNITS[unit]


def _expiry(at: datetime | None) -> str:
    if at is None:
        return "never"
    return output.cell(at) + (" (expired)" if at <= datetime.now(timezone.utc) else "")

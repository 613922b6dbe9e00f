"""nqr user: list, create, role, password, rm. Passwords come from a hidden prompt or from standard input, never from the command line."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.failures import choice
from nqrust.cli.output import Output, Quiet
from nqrust.contract.text import fault
from nqrust.installer.engine.errors import NqrError, UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.auth import User

ROLES = ("viewer", "operator", "admin")

_BOTH = "Enter the current password, then a new one of at least 12 characters, one per line."


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the users.")(ls)
    app.command("create", help="Create a user (asks for the password).")(create)
    app.command("role", help="Change the role of a user.")(role)
    app.command("password", help="Change a password (asks for the current one).")(password)
    app.command("rm", help="Delete users with their sessions and tokens.")(rm)
    return app


def ls(out: Output = "text", quiet: Quiet = False, url: ManagerUrl = None) -> None:
    from nqrust.client import calls

    out = output.chosen(out, quiet)
    with manager(url) as client:
        found = client.send(calls.users())
    output.listing(
        found,
        out,
        ("name", "role", "created", "id"),
        [(user.username, user.role, user.created_at, user.id) for user in found.items],
        empty="There is no user.",
    )


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new user.")],
    wanted: Annotated[
        str,
        typer.Option(
            "--role", metavar="viewer|operator|admin", help="Role.", callback=lambda value: choice("--role", value, ROLES)
        ),
    ] = "viewer",
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    """Create a user. At a terminal, ask for the password twice. Otherwise read it from line 1 of standard input."""
    from pydantic import ValidationError

    from nqrust.client import calls
    from nqrust.contract.auth import Role, UserCreate

    try:
        UserCreate(username=name, password=" " * 12)
    except ValidationError as error:
        raise UsageError(
            "NQR-USE-003",
            f"A user cannot be named “{name}”.",
            "Use lower-case letters, digits, dots and dashes. Begin with a letter.",
        ) from error
    secret = _asked_new() if sys.stdin.isatty() else _lines(1)[0]
    try:
        asked = UserCreate(username=name, password=secret, role=Role(wanted))
    except ValidationError as error:
        raise _unusable(f"The password cannot be used: {fault(error.errors()[0]['msg'])}.") from error
    with manager(url) as client:
        made = client.send(calls.create_user(asked))
    _print(made, out)


def role(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")],
    wanted: Annotated[str, typer.Argument(metavar="viewer|operator|admin", help="New role.")],
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    """Change the role of a user. A lower role lowers the user's tokens, too."""
    from nqrust.client import calls
    from nqrust.contract.auth import Role, UserUpdate

    choice("ROLE", wanted, ROLES)
    with manager(url) as client:
        changed = client.send(calls.update_user(_named(client, name).id, UserUpdate(role=Role(wanted))))
    _print(changed, out)


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names or ids of the users.")],
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    with manager(url) as client, output.Done(out) as done:
        for user in [_named(client, name) for name in names]:
            client.send(calls.delete_user(user.id))
            done(user.username, f"deleted user {user.username}", id=user.id)


def _named(client: ManagerClient, name: str) -> User:
    from nqrust.client import calls

    found = next((user for user in client.send(calls.users()).items if name in (user.username, user.id)), None)
    if found is None:
        raise NqrError("NQR-USE-015", f"There is no user {name}.", "List the users with: nqr user ls")
    return found


def _print(found: User, out: str) -> None:
    output.details(found, out, [("id", found.id), ("name", found.username), ("role", found.role), ("created", found.created_at)])


def password(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")],
    reset: Annotated[
        bool, typer.Option("--reset", help="Set a new password as an administrator, without the current one.")
    ] = False,
    url: ManagerUrl = None,
) -> None:
    """Change a password. At a terminal, ask for both passwords. Otherwise read the current password from line 1 of standard
    input and the new one from line 2. Signs the user out everywhere else. With --reset there is no current password."""
    from pydantic import ValidationError

    from nqrust.client import calls
    from nqrust.client.errors import ClientError
    from nqrust.contract.auth import Login, PasswordChange

    if reset:
        _reset(name, url)
        return
    current, new = _asked(name) if sys.stdin.isatty() else _read()
    try:
        Login(username=name, password=current)
        PasswordChange(current_password=current, new_password=new)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"The {str(first['loc'][0]).replace('_', ' ')} cannot be used: {fault(first['msg'])}."
        raise UsageError("NQR-USE-013", what, _BOTH) from error
    with manager(url, anonymous=True) as client:
        client.login(name, current)
        try:
            client.send(calls.change_password(current, new))
        finally:
            with suppress(ClientError):  # the session expires anyway
                client.send(calls.logout())
    typer.echo(f"changed the password of {name}")


def _reset(name: str, url: str | None) -> None:
    from pydantic import ValidationError

    from nqrust.client import calls
    from nqrust.contract.auth import UserUpdate

    new = _asked_new() if sys.stdin.isatty() else _lines(1)[0]
    try:
        change = UserUpdate(password=new)
    except ValidationError as error:
        raise _unusable(f"The password cannot be used: {fault(error.errors()[0]['msg'])}.") from error
    with manager(url) as client:
        client.send(calls.update_user(_named(client, name).id, change))
    typer.echo(f"set a new password for {name}")


def _asked(name: str) -> tuple[str, str]:
    from getpass import getpass

    try:
        current = getpass(f"Current password of {name}: ")
    except EOFError as error:
        raise UsageError("NQR-USE-013", "No password was typed.", _BOTH) from error
    return current, _asked_new()


def _asked_new() -> str:
    from getpass import getpass

    try:
        new, again = getpass("New password: "), getpass("New password again: ")
    except EOFError as error:
        raise _unusable("No password was typed.") from error
    if new != again:
        raise UsageError(
            "NQR-USE-013", "The two new passwords differ.", "Run the command again and type the same password twice."
        )
    return new


def _read() -> tuple[str, str]:
    current, new = _lines(2)
    return current, new


def _lines(number: int) -> list[str]:
    """Return that many passwords, one from each line of standard input."""
    try:
        found = [sys.stdin.readline().rstrip("\r\n") for _ in range(number)]
    except UnicodeDecodeError as error:
        raise _unusable("Standard input is not text.") from error
    if not all(found):
        if number == 2:
            raise UsageError("NQR-USE-013", "Standard input must hold two passwords.", _BOTH)
        raise _unusable("Standard input must hold a password.")
    return found


def _unusable(what: str) -> UsageError:
    return UsageError("NQR-USE-013", what, "Enter a password of at least 12 characters.")

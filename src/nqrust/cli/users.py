"""nqr user: password. Passwords come from a hidden prompt or from standard input, never from the command line."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

from nqrust.cli.connection import ManagerUrl, manager
from nqrust.installer.engine.errors import UsageError


def build(app: typer.Typer) -> typer.Typer:
    app.callback()(lambda: None)  # keeps the name of the only command
    app.command("password", help="Change a password (asks for the current one).")(password)
    return app


def password(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")], url: ManagerUrl = None) -> None:
    """Change a password. At a terminal, ask for both passwords. Otherwise read the current password from line 1 of standard
    input and the new one from line 2. Signs the user out everywhere else."""
    from pydantic import ValidationError

    from nqrust.client import calls
    from nqrust.client.errors import ClientError
    from nqrust.contract.auth import Login, PasswordChange

    current, new = _asked(name) if sys.stdin.isatty() else _read()
    try:
        Login(username=name, password=current)
        PasswordChange(current_password=current, new_password=new)
    except ValidationError as error:
        first = error.errors()[0]
        raise _unusable(f"The {str(first['loc'][0]).replace('_', ' ')} cannot be: {first['msg']}.") from error
    with manager(url, anonymous=True) as client:
        client.login(name, current)
        try:
            client.send(calls.change_password(current, new))
        finally:
            with suppress(ClientError):  # the session expires anyway
                client.send(calls.logout())
    typer.echo(f"changed the password of {name}")


def _asked(name: str) -> tuple[str, str]:
    from getpass import getpass

    try:
        current, new = getpass(f"Current password of {name}: "), getpass("New password: ")
        again = getpass("New password again: ")
    except EOFError as error:
        raise _unusable("No password was typed.") from error
    if new != again:
        raise _unusable("The two new passwords differ.")
    return current, new


def _read() -> tuple[str, str]:
    try:
        current, new = (sys.stdin.readline().rstrip("\r\n") for _ in range(2))
    except UnicodeDecodeError as error:
        raise _unusable("Standard input is not text.") from error
    if not current or not new:
        raise _unusable("Standard input must hold two passwords.")
    return current, new


def _unusable(what: str) -> UsageError:
    return UsageError("NQR-USE-013", what, "Enter the current password, then a new one of at least 12 characters, one per line.")

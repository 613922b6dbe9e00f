"""nqr completion: print the script for a shell."""

from __future__ import annotations

from typing import Annotated

import typer

from nqrust.cli.completion.scripts import SCRIPTS
from nqrust.cli.failures import choice


def add_to(app: typer.Typer) -> None:
    app.command(help="Print the script that completes commands and names in a shell.")(completion)


def completion(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell.")]) -> None:
    typer.echo(SCRIPTS[choice("SHELL", shell, tuple(SCRIPTS))], nl=False)

"""nqr dev: reload."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from nqrust.cli.failures import require_root


def build(app: typer.Typer) -> typer.Typer:
    app.command("reload", help="Copy changed sources into the installation, and restart the services that load them.")(reload)
    app.callback()(lambda: None)  # keeps `reload` a word of its own
    return app


def reload(
    source: Annotated[
        str | None, typer.Option("--source", metavar="DIR", help="Source tree of the platform (default: the one of the install).")
    ] = None,
) -> None:
    require_root("dev reload")
    from nqrust.installer.operations.reloading import reload as reload_sources

    done = reload_sources(os.path.abspath(source) if source else "", typer.echo)
    if not done.files:
        typer.echo("Nothing changed.")
        return
    typer.echo(f"{len(done.files)} file{'' if len(done.files) == 1 else 's'} changed.")
    for name in done.left:
        typer.echo(f"{name} runs on.")

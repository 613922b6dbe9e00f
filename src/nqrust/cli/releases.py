"""nqr release: build."""

from __future__ import annotations

import os
import secrets
from typing import Annotated

import typer

from nqrust.cli.failures import require_root
from nqrust.contract.text import plain


def build(app: typer.Typer) -> typer.Typer:
    app.command("build", help="Build a release folder from a source tree in upstream's form.")(build_release)
    app.callback()(lambda: None)  # keeps `build` a word of its own
    return app


def build_release(
    source: Annotated[str, typer.Option("--source", metavar="DIR", help="Cargo workspace with manager, agent and guest-agent.")],
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="New folder for the release.")],
    ui: Annotated[bool, typer.Option("--with-ui/--no-ui", help="Build the web UI of the tree too.")] = True,
    scratch: Annotated[
        str, typer.Option("--scratch", metavar="DIR", help="Folder on a disk with room for the build.")
    ] = "/var/tmp",
) -> None:
    require_root("release build")
    from nqrust.cli.install.gathering import recall

    recall()
    from nqrust.installer.operations.release_building import build_release as build_tree

    def tell(text: str, fraction: float | None) -> None:
        typer.echo(f"  {plain(text)}", err=True)  # of programs of strangers

    target = os.path.abspath(to)
    version = build_tree(
        os.path.realpath(source),
        target,
        f"{os.path.realpath(scratch)}/nqr-build-{secrets.token_hex(8)}",
        with_ui=ui,
        checkout=os.environ.get("NQR_SOURCE_CHECKOUT", ""),
        progress=tell,
    )
    typer.echo(f"built release {version} in {target}")

"""`nqr bundle`: one file with everything for hosts without a network."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from nqrust.cli import output
from nqrust.cli.failures import require_root
from nqrust.installer.engine.errors import NqrError, UsageError


def build(app: typer.Typer) -> typer.Typer:
    app.command("build", help="Write a bundle for hosts with the same system as this one.")(build_bundle)
    app.command(help="Check every file of a bundle, and its signature.")(verify)
    return app


def build_bundle(
    system: Annotated[
        str | None, typer.Option("--for", metavar="SYSTEM", help="System of the hosts, such as debian-12 (default: this host's).")
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Output file or folder (default: the current folder).")
    ] = ".",
    key: Annotated[
        str | None, typer.Option("--key", metavar="FILE", help="Ed25519 private key (PEM) that signs the bundle.")
    ] = None,
    firecracker: Annotated[
        str | None, typer.Option("--firecracker", metavar="FILE", help="Archive of Firecracker to put into the bundle.")
    ] = None,
    extra: Annotated[str, typer.Option("--with", metavar="LIST", help="Images for the bundle: images, container-runtime.")] = "",
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="DIR", help="Source tree of the platform (default: the one that installed nqr)."),
    ] = None,
) -> None:
    require_root("bundle build")
    from nqrust.cli.install.gathering import recall

    recall()
    from nqrust.installer.operations.bundling import build_bundle, extras

    checkout = os.path.abspath(source) if source else os.environ.get("NQR_SOURCE_CHECKOUT", "")
    if not checkout:
        raise UsageError("NQR-USE-018", "nqr bundle build needs a source tree of the platform.", "Name one with --source DIR.")
    images = extras(extra)
    said: list[str] = []

    def tell(text: str, fraction: float | None) -> None:
        if fraction is not None and said[-1:] != [text]:
            said.append(text)
            typer.echo(f"{text} …", err=True)

    path = build_bundle(checkout, _absolute(output), system or "", _absolute(firecracker), _absolute(key), images, tell)
    typer.echo(f"written to {path} ({os.path.getsize(path) / 1e6:.0f} MB)")


def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The bundle.")],
    key: Annotated[str | None, typer.Option("--key", metavar="FILE", help="The publisher's Ed25519 public key (PEM).")] = None,
) -> None:
    from nqrust.installer.operations.bundling import verify_bundle

    try:
        found = verify_bundle(_absolute(file), _absolute(key))
    except NqrError as error:
        if os.path.isfile(_absolute(file)):
            raise
        what, cure = f"There is no file {file}.", "Give the path of a bundle of `nqr bundle build`."
        raise UsageError("NQR-USE-240", what, cure) from error
    signed = "signed by that key" if found.signed else "signature not checked (no --key)"
    output.say(f"nqr {found.version} for {found.system} with Python {found.python}")
    typer.echo(f"{found.files} files, {found.size / 1e6:.0f} MB: all good; {signed}")


def _absolute(path: str | None) -> str:
    return os.path.abspath(os.path.expanduser(path)) if path else ""

"""fingerprint and verify-clean: everything that an installer could change on this host, and whether it has changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli.failures import require_root, write_private
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.installer.fingerprint import Fingerprint
    from nqrust.installer.fingerprint.model import Difference


def add_to(app: typer.Typer) -> None:
    app.command(help="Record the state of this host. Covers everything that an install could change.")(fingerprint)
    app.command("verify-clean", help="Compare the host with its state before the install.")(verify_clean)


def fingerprint(
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="FILE", help="Show the differences from this fingerprint.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Output file (default: standard output).")
    ] = None,
) -> None:
    require_root("fingerprint")
    from nqrust.host.local import LocalHost
    from nqrust.installer import fingerprint as prints

    before = _load(compare) if compare else None
    now = prints.take(LocalHost())
    if output:
        _save(output, now)
        typer.echo(f"written to {output}")
    if before is not None:
        _show(prints.compare(before, now))
    elif not output:
        typer.echo(now.to_bytes().decode(), nl=False)


def verify_clean(
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="FILE", help="Fingerprint from before the install (default: the saved one)."),
    ] = None,
) -> None:
    require_root("verify-clean")
    path = before or _kept()
    if path is None:
        raise UsageError(
            "NQR-USE-011",
            "This host has no fingerprint from before the install.",
            "Give one with --before FILE; `nqr fingerprint --output FILE` makes them.",
        )
    from nqrust.host.local import LocalHost
    from nqrust.installer import fingerprint as prints
    from nqrust.installer.operations.proof_of_clean import differences_later

    host = LocalHost()
    _show(differences_later(host, _load(path), prints.take(host)))


def _show(differences: Sequence[Difference]) -> None:
    """Show the differences and exit with 1 if there are any."""
    from nqrust.installer import fingerprint as prints

    if not differences:
        typer.echo("Nothing differs.")
        return
    typer.echo(prints.render(differences).rstrip("\n"))
    raise typer.Exit(1)


def _kept() -> str | None:
    from nqrust.contract.paths import INSTALL_LOG_DIR, STATE_DIR

    names = ("fingerprint.json.gz", "fingerprint.json")
    candidates = [f"{folder}/{name}" for folder in (STATE_DIR, INSTALL_LOG_DIR) for name in names]
    return next((path for path in candidates if os.path.exists(path)), None)


def _load(path: str) -> Fingerprint:
    from nqrust.host.errors import ParseError
    from nqrust.installer import fingerprint as prints

    cure = "Give the path of a file that `nqr fingerprint --output` wrote."
    try:
        with open(path, "rb") as file:
            return prints.Fingerprint.from_bytes(file.read())
    except OSError as error:
        raise UsageError("NQR-USE-011", f"The fingerprint {path} cannot be read: {error.strerror or error}.", cure) from error
    except ParseError as error:
        raise UsageError("NQR-USE-011", f"{path} is not a fingerprint: {error}.", cure) from error


def _save(path: str, now: Fingerprint) -> None:
    """Write the fingerprint with mode 0600, because it names every file of the host. Compresses it if the file name asks for
    that."""
    write_private(path, now.to_bytes(compress=path.endswith(".gz")), mode=0o600)

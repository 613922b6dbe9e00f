"""status, doctor, version: the installation and its health."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli.failures import require_root
from nqrust.cli.output import Document, data
from nqrust.contract.text import plain

if TYPE_CHECKING:
    from nqrust.installer.request import Status, Summary


def add_to(app: typer.Typer) -> None:
    app.command(help="Show the installation, its services, and interrupted runs.")(status)
    app.command(help="Find problems, with a cure for each. Shows status and test results.")(doctor)
    app.command(help="Show the version of nqr.")(version)

    @app.callback()
    def _root(
        show_version: Annotated[
            bool, typer.Option("-V", "--version", is_eager=True, callback=_version_flag, help="Show the version of nqr.")
        ] = False,
    ) -> None:
        return None


def version(output: Document = "text") -> None:
    import platform

    from nqrust import __version__

    if output != "text":
        found = {"version": __version__, "python": platform.python_version(), "architecture": platform.machine()}
        data(found, output)
        return
    typer.echo(f"nqr {__version__}")


def _version_flag(given: bool) -> None:
    if given:
        version()
        raise typer.Exit(0)


def status(output: Document = "text") -> None:
    require_root("status")
    found = _status()
    if output != "text":
        data(dataclasses.asdict(found), output)
        return
    for line in status_lines(found):
        typer.echo(plain(line))


def doctor(output: Document = "text") -> None:
    require_root("doctor")
    from nqrust.cli.install.gathering import as_installed
    from nqrust.installer import operations
    from nqrust.installer.engine.events import NullReporter

    found = _status()
    proofs: Summary | None = operations.verify(as_installed({}), NullReporter()) if found.installed else None
    exit_code = proofs.exit_code if proofs else 1
    if found.drift or found.problems or found.unfinished:
        exit_code = exit_code or 1
    if output != "text":
        document = {
            "status": dataclasses.asdict(found),
            "proofs": [dataclasses.asdict(p) for p in proofs.proofs] if proofs else [],
        }
        data(document, output)
        raise typer.Exit(exit_code)
    for line in [*status_lines(found), *_advice(found, proofs)]:
        typer.echo(plain(line))
    raise typer.Exit(exit_code)


def _status() -> Status:
    from nqrust.cli.install.gathering import as_installed
    from nqrust.installer import operations

    return operations.status(as_installed({}))


def status_lines(found: Status) -> list[str]:
    """Return the status as aligned lines for people."""
    if not found.installed:
        lines = ["NQRust-MicroVM is not installed on this host."]
        if found.unfinished:
            lines += _interrupted(found.unfinished)
        else:
            lines += ["  next: nqr install"]
        return lines + [f"note: {note}" for note in found.notes]
    rows = [("version", found.version), ("mode", found.mode), ("installed", found.installed_at)]
    rows += [("supervisor", found.supervisor), ("VMM", found.vmm)]
    rows += [(name, url) for name, url in found.urls.items()]
    lines = ["NQRust-MicroVM is installed on this host."]
    lines += [f"  {label:<11} {value}" for label, value in rows if value]
    width = max((len(service.name) for service in found.services), default=0)
    for service in found.services:
        health = {True: "healthy", False: "NOT HEALTHY", None: ""}[service.healthy]
        active = "active" if service.active else "NOT ACTIVE"
        enabled = "enabled" if service.enabled else "not enabled"
        detail = service.detail
        lines.append(f"  {service.name:<{width}}  {active}, {enabled}  {health}  {detail}".rstrip())
    if found.unfinished:
        lines += _interrupted(found.unfinished)
    lines += [f"drift: {line}" for line in found.drift]
    lines += [f"problem: {line}" for line in found.problems]
    return lines + [f"note: {note}" for note in found.notes]


def _interrupted(verb: str) -> list[str]:
    """Return what to do about an interrupted run of `verb`. No rollback can bring back what is gone."""
    what = "A rotation of secrets" if verb == "rotate" else f"A run of {verb}"
    other = "install" if verb in ("rotate", "uninstall") else "rollback"
    return [f"{what} was interrupted.", f"  next: run it again, or: nqr {other}"]


def _advice(found: Status, proofs: Summary | None) -> list[str]:
    from nqrust.installer.reporting.wording import error_lines, proof_line

    if proofs is None:
        return []
    lines = ["", "Proofs:"]
    for proof in proofs.proofs:
        lines.append(f"  {proof_line(proof)}")
        if proof.verdict != "passed" and proof.cure:
            lines.append(f"    {proof.code}  cure: {proof.cure}")
    if proofs.failure is not None and not proofs.proofs:
        lines += error_lines(proofs.failure)
    if found.drift:
        lines += ["", "Things are no longer as installed. To put them back: nqr install"]
    elif proofs.exit_code == 0 and not found.problems:
        lines += ["", "All is well."]
    return lines

"""install, plan, uninstall, rollback, verify, phase run: the commands that run the engine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nqrust.cli import session
from nqrust.cli.failures import choice, require_root
from nqrust.cli.install import asking
from nqrust.cli.install.flags import Flags, run_value, with_flags
from nqrust.cli.signals import Stopped
from nqrust.cli.tree import new
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.phases.order import PHASES, ROTATED

if TYPE_CHECKING:
    from nqrust.installer.engine.events import Reporter
    from nqrust.installer.request import PlanPreview, Request, Summary
    from nqrust.installer.settings.sources import Gathered


def add_to(app: typer.Typer) -> None:
    app.command(help="Install on this host, or apply changed settings. `nqr config show` prints the value of each setting.")(
        with_flags("install", settings=True)(install)
    )
    app.command(help="Show the changes of an install without making them.")(with_flags("plan", settings=True)(plan))
    app.command(help="Test each part of the installation, and boot a VM.")(with_flags("verify", settings=False)(verify))
    app.command(help="Undo the interrupted run, or the last run. Keeps what users have put here.")(
        with_flags("rollback", settings=False)(rollback)
    )
    app.command(help="Remove the platform. Keeps VM disks, images and the database by default.")(
        with_flags("uninstall", settings=False)(uninstall)
    )
    app.command(help="Replace all secrets, or those that you name. VMs and consoles continue.")(
        with_flags("rotate", settings=False)(rotate)
    )
    phase = new("Run single phases of an install.")
    phase.command("run", help=f"Run one phase of an install. The phases are {', '.join(PHASES)}.")(
        with_flags("phase", settings=True)(phase_run)
    )
    phase.command("ls", help="List the phases in order.")(phase_ls)
    app.add_typer(phase, name="phase")


def install(flags: Flags) -> None:
    require_root("install")
    from nqrust.cli.install.gathering import gathered, request

    _rehearsal_flags_fit(flags)
    found = gathered(flags)
    if run_value(flags, "rehearse"):
        _rehearse(flags, found)
        return
    from nqrust.cli.install.guiding import wanted

    if wanted(flags, found):
        _guide(flags, found)
        return
    with _opened(flags) as run:
        _tell(run, found)
        from nqrust.installer import operations

        asked = request(flags, found, log_path=run.log.path, confirm=_question(run, flags, "Install?"))
        _finish(run, "install", operations.install(asked, _listeners(run, asked)))


def plan(
    flags: Flags,
    detailed_exitcode: Annotated[bool, typer.Option("--detailed-exitcode", help="Exit with 10 if there are changes.")] = False,
) -> None:
    require_root("plan")
    from nqrust.cli.install.gathering import gathered, request

    found = gathered(flags)
    with _opened(flags) as run:
        _tell(run, found)
        from nqrust.installer import operations
        from nqrust.installer.request import EXIT_CHANGES

        asked = request(flags, found)
        asked = replace(asked, run=replace(asked.run, dry_run=True))
        summary = operations.plan(asked, _listeners(run, asked))
        changes = summary.preview.changes if summary.preview else summary.changed
        exit_code = summary.exit_code if summary.failure else EXIT_CHANGES if changes and detailed_exitcode else 0
        _finish(run, "plan", replace(summary, exit_code=exit_code))


def _guide(flags: Flags, found: Gathered) -> None:
    """Install by the guide, then show the summary in the scrollback of the terminal."""
    from nqrust.cli.install.guiding import guide
    from nqrust.guide.app import Ending
    from nqrust.installer.request import Summary

    with _opened(flags) as run:
        ending, state = guide(flags, run, found)
        if state.signal == signal.SIGHUP:  # the terminal is gone, so only the log can say how it ended
            if state.summary is not None and state.summary.failure is not None:
                run.log.failure(state.summary.failure)
            raise typer.Exit(130)
        if ending is Ending.stopped:
            raise Stopped(signal.Signals(state.signal or signal.SIGINT).name)
        _finish(run, "install", state.summary or Summary("ok", 0, notes=("Nothing was changed.",)))


def _rehearsal_flags_fit(flags: Flags) -> None:
    if run_value(flags, "report") and not run_value(flags, "rehearse"):
        raise UsageError(
            "NQR-USE-004",
            "--report (or NQR_REPORT) needs a rehearsal.",
            "Add --rehearse, or leave --report out and unset NQR_REPORT.",
        )
    if run_value(flags, "rehearse") and run_value(flags, "dry_run"):
        raise UsageError(
            "NQR-USE-014",
            "A dry run does not make the clone that a rehearsal needs.",
            "Choose one of --rehearse and --dry-run (and of NQR_REHEARSE and NQR_DRY_RUN).",
        )
    if run_value(flags, "rehearse") and flags.get("non_interactive") is False:
        raise UsageError(
            "NQR-USE-014",
            "A rehearsal asks no questions.",
            "Leave --interactive out. Or leave out --rehearse (or NQR_REHEARSE), and rehearse from the guide.",
        )


def _rehearse(flags: Flags, found: Gathered) -> None:
    from nqrust.cli.install.gathering import request
    from nqrust.cli.install.rehearsing import install_arguments, write_report
    from nqrust.installer.rehearsal.operation import rehearse

    with _opened(flags) as run:
        _tell(run, found)
        # The host's log records changes of the host, and a rehearsal makes none.
        summary = rehearse(request(flags, found), install_arguments(flags), run.display, cwd=os.getcwd())
        report = run_value(flags, "report")
        if report and summary.rehearsal is not None:
            write_report(report, summary)
        _finish(run, "rehearsal", summary)


def verify(flags: Flags) -> None:
    require_root("verify")
    with _opened(flags) as run:
        from nqrust.cli.install.gathering import as_installed
        from nqrust.installer import operations

        _finish(run, "verify", operations.verify(as_installed(flags, log_path=run.log.path), run.events))


def rollback(flags: Flags) -> None:
    require_root("rollback")
    with _opened(flags) as run:
        from nqrust.cli.install.gathering import as_installed
        from nqrust.installer import operations

        asked = as_installed(flags, log_path=run.log.path, confirm=_question(run, flags, "Undo these changes?"))
        _finish(run, "rollback", operations.rollback(asked, _listeners(run, asked)))


def uninstall(
    flags: Flags,
    script: Annotated[
        str | None,
        typer.Option(
            "--script",
            metavar="FILE",
            help="Write the uninstall as a shell script instead of running it (-: print it).",
        ),
    ] = None,
    save_fingerprint: Annotated[
        str | None,
        typer.Option(
            "--save-fingerprint",
            metavar="FILE",
            help="Save the fingerprint from before the install, to compare with it later.",
        ),
    ] = None,
) -> None:
    require_root("uninstall")
    dry_run = bool(run_value(flags, "dry_run"))
    if dry_run and (save_fingerprint is not None or script not in (None, "-")):
        raise UsageError(
            "NQR-USE-014",
            f"{'--save-fingerprint' if save_fingerprint is not None else '--script'} writes a file, but a dry run writes nothing.",
            "Leave --dry-run (or NQR_DRY_RUN) out, or print the script with --script -.",
        )
    if script is not None and run_value(flags, "output") == "json":
        raise UsageError(
            "NQR-USE-014",
            "The output of --script is the script, so it cannot be JSON.",
            "Leave --output json (or NQR_OUTPUT) out.",
        )
    if save_fingerprint is not None:
        _save_fingerprint(save_fingerprint)
    if script is not None:
        _write_script(script, flags)
        return
    with _opened(flags) as run:
        if not dry_run and (run_value(flags, "purge_data") or run_value(flags, "drop_database")):
            non_interactive = bool(run_value(flags, "non_interactive"))
            asking.must_be_answerable(run.terminal, non_interactive)
        from nqrust.cli.install.gathering import as_installed
        from nqrust.installer import operations

        question = _question(run, flags, "Remove NQRust-MicroVM from this host?")
        asked = as_installed(flags, log_path=run.log.path, confirm=question)
        _finish(run, "uninstall", operations.uninstall(asked, _listeners(run, asked)))


def rotate(
    flags: Flags,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help=f"Any of {', '.join(ROTATED)} (default: all)."),
    ] = None,
    timeout: Annotated[
        int, typer.Option("--timeout", metavar="SECONDS", min=1, max=86400, help="Longest wait for the hosts in seconds.")
    ] = 300,
) -> None:
    require_root("rotate")
    for name in names or ():
        choice("NAME", name, ROTATED)
    with _opened(flags) as run:
        from nqrust.cli.install.gathering import as_installed
        from nqrust.installer import operations

        asked = as_installed(flags, log_path=run.log.path, confirm=_question(run, flags, "Replace these secrets?"))
        _finish(run, "rotate", operations.rotate(asked, tuple(names or ROTATED), float(timeout), _listeners(run, asked)))


def _write_script(path: str, flags: Flags) -> None:
    """Write the undo script with mode 0700: it contains the originals of the replaced files."""
    from nqrust.cli.failures import write_private
    from nqrust.cli.install.gathering import as_installed
    from nqrust.installer import operations

    text = operations.undo_script(as_installed(flags))
    if path == "-":
        typer.echo(text, nl=False)
        return
    write_private(path, text.encode(errors="surrogateescape"), mode=0o700)
    typer.echo(f"written to {path}")


def _save_fingerprint(path: str) -> None:
    from nqrust.cli.failures import write_private
    from nqrust.contract.paths import FINGERPRINT

    try:
        with open(FINGERPRINT, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(
            "NQR-USE-011",
            f"This host has no fingerprint from before the install: {error.strerror or error}.",
            "Run the same command again without --save-fingerprint.",
        ) from error
    write_private(path, content, mode=0o600)


def phase_run(flags: Flags, name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the phase.")]) -> None:
    require_root("phase run")
    choice("NAME", name, PHASES)
    from nqrust.cli.install.gathering import gathered, request

    found = gathered(flags)
    with _opened(flags) as run:
        _tell(run, found)
        from nqrust.installer import operations

        asked = request(flags, found, log_path=run.log.path, confirm=_question(run, flags, f"Run phase {name}?"))
        _finish(run, "phase", operations.phase_run(asked, name, _listeners(run, asked)))


def phase_ls() -> None:
    for name in PHASES:
        typer.echo(name)


def _opened(flags: Mapping[str, Any]) -> Any:
    level = run_value(flags, "log_level") if "log_level" in flags else None
    return session.opened(run_value(flags, "output") or "text", level or "debug")


def _question(run: session.Session, flags: Flags, question: str) -> Callable[[PlanPreview], bool] | None:
    """Return the confirmation to ask on a terminal before the first change, or None."""
    return asking.asker(run.display, question) if run.terminal and not run_value(flags, "non_interactive") else None


def _listeners(run: session.Session, asked: Request) -> Reporter:
    """Return the reporters of a run. People read the preview of a dry run; programs may also want its events. A dry run
    writes no log, because nothing happens."""
    if not asked.run.dry_run:
        return run.events
    from nqrust.installer.reporting.warnings import WarningsOnly

    return run.display if run.speaks_json else WarningsOnly(run.display)


def _tell(run: session.Session, found: Gathered) -> None:
    for note in found.notes:
        run.display.note(note)


def _finish(run: session.Session, verb: str, summary: Summary) -> None:
    """Show the summary, then exit with its exit code."""
    if summary.failure is not None:
        run.log.failure(summary.failure)
    run.display.summary(verb, replace(summary, log_path=run.log_path))
    if summary.farewell:  # removes the environment of this very process, so no code of nqr may run after it
        with suppress(OSError):
            sys.stdout.flush()
        # After a signal nothing could continue it: the record of what the bootstrap made goes first.
        script = f"trap '' HUP INT TERM\n{summary.farewell}exit {summary.exit_code}\n"
        os.execv("/bin/sh", ["sh", "-c", script])
    raise typer.Exit(summary.exit_code)

"""The undo script that an installed host keeps: one script for every choice that uninstall offers.

`whole.render` renders the script of one choice, without the parts that stay. Here each entry depends on its record's choice,
so the person who runs the script decides, as with `nqr uninstall`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from shlex import quote

from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.together import with_older
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.registry import VERBS
from nqrust.installer.verbs.script.prelude import PRELUDE
from nqrust.installer.verbs.script.whole import lines_of, that_stays
from nqrust.installer.verbs.service.shell import start_of

_GUARDS = {
    Retain.nothing: "",
    Retain.data: '[ -n "$purge_data" ]',
    Retain.database: '[ -n "$drop_database" ]',
    Retain.packages: '[ -z "$keep_packages" ]',
}

_OPTIONS = r"""
usage() {
    echo 'Usage: undo.sh [--purge-data] [--drop-database] [--keep-packages] [--non-interactive] [--dry-run]   (as root)'
    echo 'VM disks, images and the database stay, unless --purge-data and --drop-database are given.'
}
set_by() { # value of an environment variable
    case $(printf '%s' "$1" | tr '[:upper:]' '[:lower:]') in 1 | true | yes | on) echo 1 ;; esac
}
purge_data=$(set_by "${NQR_PURGE_DATA:-}")
drop_database=$(set_by "${NQR_DROP_DATABASE:-}")
keep_packages=$(set_by "${NQR_KEEP_PACKAGES:-}")
unattended=$(set_by "${NQR_NON_INTERACTIVE:-}")
dry_run=$(set_by "${NQR_DRY_RUN:-}")
for option in "$@"; do
    case $option in
        --purge-data) purge_data=1 ;;
        --no-purge-data) purge_data='' ;;
        --drop-database) drop_database=1 ;;
        --no-drop-database) drop_database='' ;;
        --keep-packages) keep_packages=1 ;;
        --no-keep-packages) keep_packages='' ;;
        --non-interactive) unattended=1 ;;
        --interactive) unattended='' ;;
        --dry-run) dry_run=1 ;;
        --no-dry-run) dry_run='' ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            echo "undo.sh does not know the option $option; nothing was changed." >&2
            usage >&2
            exit 2
            ;;
    esac
done
"""

_QUESTION = r"""
if [ -z "$unattended" ]; then
    if [ -t 0 ]; then
        printf 'Remove NQRust-MicroVM from this host? [y/N] '
        read -r answer
        case $answer in
            [yY] | [yY][eE][sS]) ;;
            *)
                echo 'Nothing was changed.'
                exit 0
                ;;
        esac
    elif [ -n "$purge_data$drop_database" ]; then
        echo 'Without a terminal, data is removed only with --non-interactive; nothing was changed.' >&2
        exit 2
    fi
fi
"""


def key(entries: Iterable[Entry], records: int, last: str) -> str:
    """Return a key for a receipt, its number of records, the script's functions, and its `last` commands."""
    rows = [[e.seq, e.run, e.done, e.retained] for e in sorted(entries, key=lambda e: e.seq)]
    return hashlib.sha256(f"{records}{json.dumps(rows)}{PRELUDE}{_OPTIONS}{_QUESTION}{last}".encode()).hexdigest()


def head(entries: Iterable[Entry], records: int, last: str) -> str:
    """Return the first lines of this receipt's script, which distinguish it from an older one."""
    return f"#!/bin/sh\n# Receipt: {key(entries, records, last)}\n"


def render(
    all_of_it: UndoContext,
    with_database: UndoContext,
    entries: Iterable[Entry],
    *,
    path: str,
    journal: str,
    records: int,
    epilogue: Callable[[bool], str],
) -> str:
    """The whole script. The contexts: where the database goes, and where it stays and needs its packages. `path`: where the
    script stays while something does. `journal`: the file whose `records` it is made of; while that has more, a run was
    killed since, and the script leaves it for nqr. `epilogue`: what is run when nothing is left, packages kept or not.

    Raises StepFailed NQR-ENG-004 when an original is missing, JournalError NQR-ENG-014 for a verb we do not know."""
    newest_first = sorted(entries, key=lambda e: e.seq, reverse=True)
    retained = {e.retain for e in newest_first}
    parts = [
        head(newest_first, records, epilogue(False)),
        PRELUDE.removeprefix("#!/bin/sh\n"),
        _OPTIONS,
        *_dry_run(newest_first),
        _QUESTION,
        *(f"{line}\n" for line in VERBS.rest_script(undo for entry in newest_first for undo in entry.undo)),
    ]
    for entry in newest_first:
        if guard := _GUARDS[entry.retain]:
            parts += [f"{guard} || {line}\n" for line in that_stays(all_of_it, entry)]
    states: dict[str, tuple[Entry, Undo]] = {}  # a unit's oldest record has its original state
    for entry in newest_first:
        guard = _GUARDS[entry.retain]
        parts.append(f"\n# undo: {_said(entry)}\n")
        packages = any(undo.verb == "packages" for undo in entry.undo)
        if packages and Retain.database in retained:
            going = _lines(with_older(all_of_it, entry, newest_first), entry)
            staying = _lines(with_older(with_database, entry, newest_first), entry)
            body = _if(_GUARDS[Retain.database], going, staying)
        else:
            body = _lines(with_older(all_of_it, entry, newest_first), entry)
        parts.append("".join(_if(guard, body) if guard else body))
        states.update({str(undo.args["name"]): (entry, undo) for undo in reversed(entry.undo) if undo.verb == "unit"})
    parts.append("\nif with_systemd; then try systemctl daemon-reload; fi\n")
    for entry, undo in states.values():
        guard = _GUARDS[entry.retain]
        if VERBS.needs_settling(undo) and entry.decides(undo):
            parts.append(f"{guard} && {start_of(undo.args)}\n" if guard else f"{start_of(undo.args)}\n")
    parts += [_failures(path), _killed_since(journal, records), *_ending(retained, path, epilogue), "echo 'Done.'\n"]
    return "".join(parts)


def _said(entry: Entry) -> str:
    return " ".join(entry.describe.split())


def _lines(context: UndoContext, entry: Entry) -> list[str]:
    return [f"{line}\n" for undo in reversed(entry.undo) for line in lines_of(context, undo)]


def _if(guard: str, body: list[str], otherwise: list[str] | None = None) -> list[str]:
    rest = ["else\n", "    :\n", *otherwise] if otherwise is not None else []
    return [f"if {guard}; then\n", "    :\n", *body, *rest, "fi\n"]


def _dry_run(entries: list[Entry]) -> Iterator[str]:
    yield '\nif [ -n "$dry_run" ]; then\n'
    for entry in entries:
        told = f"echo {quote('undo: ' + _said(entry))}"
        guard, stays = _GUARDS[entry.retain], VERBS.stays_script(entry.undo)
        guard = guard or (f"! {{ {stays}; }}" if stays else "")
        yield f"    if {guard}; then {told}; else echo {quote('stays: ' + _said(entry))}; fi\n" if guard else f"    {told}\n"
    yield "    echo 'Nothing was changed.'\n    exit 0\nfi\n"


def _failures(path: str) -> str:
    return (
        f'\nif [ "$failed" -gt 0 ]; then\n    echo "$failed things could not be undone; run {path} again." >&2\n    exit 1\nfi\n'
    )


def _killed_since(journal: str, records: int) -> str:
    return (
        f"if [ \"$(grep -c '' {quote(journal)} 2>/dev/null || :)\" -gt {records} ] 2>/dev/null; then\n"
        "    echo 'A run of nqr was killed after this script was written. What it made is still here and stays recorded:' >&2\n"
        "    echo 'run scripts/install/uninstall.sh of a source tree.' >&2\n    exit 1\nfi\n"
    )


def _ending(retained: set[Retain], path: str, epilogue: Callable[[bool], str]) -> Iterator[str]:
    wanted = [_GUARDS[r] for r in (Retain.data, Retain.database, Retain.packages) if r in retained]
    last = _if('[ -n "$keep_packages" ]', [epilogue(True)], [epilogue(False)])
    if not wanted:
        yield from last
        return
    stays = f"    echo 'What stays can be removed later: {path} --purge-data --drop-database'\n"
    yield from _if(" && ".join(wanted), last, [stays])

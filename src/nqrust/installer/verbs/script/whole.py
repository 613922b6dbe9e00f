"""The same undo as a POSIX shell script, for the day when nqr, or Python, is gone.

Each record becomes one call of a function of `script_functions`; originals are in the script itself, as base64.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Callable, Iterable, Iterator
from shlex import quote
from typing import Any

from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.together import with_older
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.kernel.undo import sysctl_path
from nqrust.installer.verbs.packages import spared
from nqrust.installer.verbs.packages import undo as packages
from nqrust.installer.verbs.packages.registry import REMOVERS
from nqrust.installer.verbs.postgres import undo as postgres
from nqrust.installer.verbs.script.prelude import PRELUDE
from nqrust.installer.verbs.service import undo as services

_WIDTH = 76  # base64 of a line


def render(context: UndoContext, entries: Iterable[Entry], *, retain: Callable[[Entry], bool], epilogue: str = "") -> str:
    """The whole script. `entries` as the receipt has them; `epilogue`: what is to be run when nothing failed.

    Raises StepFailed NQR-ENG-004 when an original is missing, JournalError NQR-ENG-014 for a verb we do not know."""
    parts = [PRELUDE]
    newest_first = sorted((e for e in entries if not retain(e)), key=lambda e: e.seq, reverse=True)
    states: dict[str, tuple[Entry, Undo]] = {}  # the oldest record of a unit says how it was
    for entry in newest_first:
        parts.append(f"\n# undo: {' '.join(entry.describe.split())}\n")
        now = with_older(context, entry, newest_first)
        for undo in reversed(entry.undo):
            parts.append("".join(f"{line}\n" for line in lines_of(now, undo)))
            if undo.verb == "unit":
                states[str(undo.args["name"])] = entry, undo
    parts.append("\nif with_systemd; then try systemctl daemon-reload; fi\n")
    parts += [f"{start_of(undo)}\n" for entry, undo in states.values() if entry.restarts(undo)]
    parts.append(
        '\nif [ "$failed" -gt 0 ]; then\n    echo "$failed things could not be undone; run this again." >&2\n    exit 1\nfi\n'
    )
    return "".join(parts) + epilogue + "echo 'Done.'\n"


def lines_of(context: UndoContext, undo: Undo) -> Iterator[str]:
    writer = _WRITERS.get(undo.verb)
    if writer is None:
        raise JournalError(
            "NQR-ENG-014",
            f"The journal names the undo verb “{undo.verb}”, which this nqr does not know.",
            "Run the nqr that wrote it, or a newer one.",
        )
    return writer(context, undo.args)


def _call(name: str, *words: object) -> str:
    return " ".join([name, *(quote(str(word)) for word in words)])


def _file(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    path, ours, prior = args["path"], args.get("ours") or "", args.get("prior")
    if prior is None:
        yield _call("remove_file", path, ours)
    elif prior["kind"] == "symlink":
        yield _call("put_link", path, ours, prior["target"])
    else:
        yield from _content(path, ours, prior["sha256"], prior, context.originals.read(prior["sha256"]))


def _content(path: str, ours: str, digest: str, kept: dict[str, Any], data: bytes) -> Iterator[str]:
    head = _call("restore_file", path, ours, digest, f"{kept['mode']:04o}", kept["owner"], kept["group"])
    yield f"{head} <<'END_OF_ORIGINAL'"
    text = base64.b64encode(data).decode()
    yield from (text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH))
    yield "END_OF_ORIGINAL"
    for name, value in kept.get("xattrs", {}).items():
        yield _call("set_attribute", path, name, f"0s{value}")


def _spared(path: str, row: dict[str, Any]) -> Iterator[str]:
    if "target" in row:
        yield _call("put_link", path, "", row["target"])
    else:
        yield from _content(path, "", spared.digest(row), row, base64.b64decode(row["content"]))


def _packages(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    host, manager = context.host, str(args["manager"])
    going, staying = packages.victims(host, args, context.needed_packages)
    going -= set(map(REMOVERS[manager].plain(host), packages.brought_by(context.older)))
    made = packages.known_traces(context.originals, args)
    cut_off = made is None
    if made is None:
        made = packages.made_now(context, args)
    spare = packages.spared_now(context, args, going)
    yield f"configured={quote(' '.join(sorted(going & packages.configured_before(host, args))))}"
    if cut_off and (paths := packages.still_to_be_made(context, args)):
        yield _call("watch", *paths)
    yield f"if {_call('purge', manager, *sorted(going))}; then"
    yield "    :"
    if not staying:
        yield from (f"    {line}" for line in _traces(made, args.get("residue") or {}))
        yield "    made_meanwhile"
    yield "fi"
    yield from _traces(packages.leftovers(context, args), {})
    for path, row in spare.items():
        if "folder" in row:
            mode, owner, group = row["folder"]
            yield _call("put_directory", posixpath.dirname(path), f"{mode:04o}", owner, group)
        yield f"if ! {_call('there', path)}; then"
        yield from _spared(path, row)
        yield "fi"
        for name, known in row.get("beside", {}).items():
            yield _call("drop_copy", name, known, path, spared.digest(row))
    if manager == "apt":
        plain = REMOVERS[manager].plain(host)
        before, manual = (" ".join(sorted(map(plain, args[key]))) for key in ("before", "manual"))
        yield _call("restore_marks", before, manual)


def _traces(made: dict[str, Any], residue: dict[str, Any]) -> Iterator[str]:
    for path, row in sorted(made["paths"].items(), reverse=True):
        if row[0] == "symlink":
            yield _call("made_link", path, row[1])
        elif row[0] == "directory":
            yield _call("made_directory", path)
        elif row[0] == "file" and " " not in row[1]:
            yield _call("made_file", path, row[1])
    for name in dict.fromkeys([*made["users"], *residue.get("users", [])]):
        yield _call("remove_user", name)
    for name in dict.fromkeys([*made["groups"], *residue.get("groups", [])]):
        yield _call("remove_group", name)


def _rules(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    for rule in args["rules"]:
        yield _call("remove_rule", args["binary"], *rule)
    for chain in args["chains"]:
        yield _call("remove_chain", args["binary"], *chain)


def _unit(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    if args["supervisor"] == "systemd":
        yield _call("stop_unit", args["name"], int(args["enabled"]), int(args["active"]))
    elif not args["active"] and args.get("control"):
        yield _call("supervisor_program", "stop", args["name"], *args["control"])


def start_of(undo: Undo) -> str:
    args = undo.args
    if args["supervisor"] == "systemd":
        return _call("start_unit", args["name"], int(args["enabled"]))
    return _call("supervisor_program", "restart", args["name"], *args.get("control", ["/nonexistent"]))


def _sql(statement: str, stays: Callable[[dict[str, Any]], str]) -> Callable[[UndoContext, dict[str, Any]], Iterator[str]]:
    """`stays`: what is said where other databases depend on it; "" where that is a failure."""

    def write(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
        sql = statement.format(postgres.quote(str(args["name"])))
        cluster = postgres.find(context.host, args["cluster"])
        if cluster is not None:
            place = (cluster.socket_dir, cluster.port, *postgres.server(cluster), cluster.data_dir)
            yield _call("sql", args["cluster"]["user"], sql, *place, stays(args))

    return write


def _simple(form: Callable[[dict[str, Any]], str]) -> Callable[[UndoContext, dict[str, Any]], Iterator[str]]:
    return lambda context, args: iter((form(args),))


def _ruleset(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    """Chains that came with a change of the rules; those from before have a record of their own."""
    binary = str(args["binary"])
    for table, parent, _, *jump in args["added"]:
        yield _call("remove_rule", binary, table, parent, *jump)
    for table, _, chain, *_ in args["added"]:
        yield _call("remove_chain", binary, table, chain)


_WRITERS: dict[str, Callable[[UndoContext, dict[str, Any]], Iterator[str]]] = {
    "file": _file,
    "block": _simple(lambda a: _call("remove_block", a["path"], a["marker"], int(bool(a.get("created"))))),
    "block_text": _simple(lambda a: _call("restore_block", a["path"], a["marker"], a["prior"])),
    "directory": _simple(lambda a: _call("remove_tree" if a.get("tree") else "remove_directory", a["path"])),
    "contents": _simple(lambda a: _call("remove_contents", a["path"])),
    "mode": _simple(lambda a: _call("set_mode", a["path"], f"{a['mode']:04o}", a["owner"], a["group"])),
    "symlink": _simple(lambda a: _call("restore_link", a["path"], a["ours"], a.get("prior") or "")),
    "user": _simple(lambda a: _call("remove_user", a["name"])),
    "group": _simple(lambda a: _call("remove_group", a["name"])),
    "member": _simple(lambda a: _call("remove_member", a["group"], a["user"])),
    "packages": _packages,
    # Only a rollback needs these whole: an older record of the script removes the bridge and the chains that it made.
    "bridge": _simple(lambda a: f": # {a['name']} goes"),
    "addresses": _simple(lambda a: f": # {a['name']} goes"),
    "ruleset": _ruleset,
    "link": _simple(lambda a: _call("remove_net_link", a["name"])),
    "sysctl": _simple(lambda a: _call("restore_sysctl", sysctl_path(str(a["key"])), a["prior"], a["ours"])),
    "module": _simple(lambda a: _call("remove_module", str(a["name"]).replace("-", "_"))),
    "rules": _rules,
    "unit": _unit,
    "supervisord": _simple(lambda a: _call("end_supervisord", a["config"])),
    "vms": _simple(lambda a: _call("end_vms", a["prefix"], services.TAP_ALIAS.decode(), services.SCOPE_ENV.decode())),
    "resource": lambda context, args: iter(()),  # the script removes the whole service, and its records with it
    "role": _sql(postgres.DROP_ROLE, postgres.role_stays),
    "database": _sql(postgres.DROP_DATABASE, lambda args: ""),
}

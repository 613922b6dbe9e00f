"""Undo of sysctls and kernel modules."""

from __future__ import annotations

from typing import Any

from nqrust.host.errors import CommandFailed, ProgramMissing
from nqrust.host.port import command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext


def undo_sysctl(key: str, *, prior: str, ours: str) -> Undo:
    """Set a kernel parameter back, unless it is no longer what we set."""
    return Undo("sysctl", {"key": key, "prior": prior, "ours": ours})


def undo_module(name: str) -> Undo:
    """Unload a kernel module that we loaded; busy is reported, not forced."""
    return Undo("module", {"name": name})


def sysctl_path(key: str) -> str:
    """proc(5) path of a key as sysctl(8) writes it. A `/` in the key stands for a dot in an interface's name."""
    return "/proc/sys/" + key.replace(".", "\0").replace("/", ".").replace("\0", "/")


def sysctl(context: UndoContext, args: dict[str, Any]) -> Outcome:
    path = sysctl_path(str(args["key"]))
    if context.host.stat(path) is None:
        return Reverted("already gone")
    now = context.host.read_text(path).strip()
    if now == args["prior"]:
        return Reverted("already as it was")
    if now != args["ours"]:
        return Kept(f"{args['key']} is {now}, which is neither what we set nor what it was")
    context.host.run(command("tee", path, input=f"{args['prior']}\n".encode()))
    return Reverted()


def module(context: UndoContext, args: dict[str, Any]) -> Outcome:
    name = str(args["name"])
    if context.host.stat(f"/sys/module/{name.replace('-', '_')}") is None:
        return Reverted("already gone")
    try:
        context.host.run(command("modprobe", "--remove", name))
    except ProgramMissing:
        return Kept(f"module {name} goes at the next boot: the program modprobe is gone")
    except CommandFailed:
        return Kept(f"module {name} is in use; it goes at the next boot")
    return Reverted()

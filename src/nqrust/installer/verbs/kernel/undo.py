"""Undo of sysctls and kernel modules."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nqrust.host.errors import CommandFailed, ProgramMissing
from nqrust.host.port import Host, command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext
from nqrust.installer.verbs.kernel import forwarding, kvm_users


def undo_sysctl(key: str, *, prior: str, ours: str, others: Collection[str] = ()) -> Undo:
    """Restore a kernel parameter, unless someone changed nqr's value. Forwarding stays on if others use it. `others`: signs of
    theirs from when it was off."""
    args = {"key": key, "prior": prior, "ours": ours}
    return Undo("sysctl", {**args, "others": [*others]} if others else args)


def undo_module(name: str, *, users: Collection[str] = ()) -> Undo:
    """Unload a kernel module that nqr loaded. Reports a busy module and does not force it. `users`: those that might have used
    it before."""
    return Undo("module", {"name": name, "users": [*users]} if users else {"name": name})


def sysctl_path(key: str) -> str:
    """Return the proc(5) path of a key in sysctl(8)'s notation. A `/` in the key stands for a dot in an interface's name."""
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
    if sign := used(context.host, args):
        return Kept(forwarding.stays(sign), path)
    context.host.run(command("tee", path, input=f"{args['prior']}\n".encode()))
    return Reverted()


def used(host: Host, args: dict[str, Any]) -> str:
    """Return a sign that others use what the revert would turn off, or an empty string."""
    if args["key"] != forwarding.FORWARDING or args["prior"] != "0":
        return ""
    return forwarding.found_on(host, args.get("others", ()))


def module(context: UndoContext, args: dict[str, Any]) -> Outcome:
    name = str(args["name"])
    if context.host.stat(f"/sys/module/{name.replace('-', '_')}") is None:
        return Reverted("already gone")
    if user := since(context.host, args):
        return Kept(module_stays(name, user))
    try:
        context.host.run(command("modprobe", "--remove", name))
    except ProgramMissing:
        return Kept(f"module {name} goes at the next boot: the program modprobe is gone")
    except CommandFailed:
        return Kept(f"module {name} is in use; it goes at the next boot")
    return Reverted()


def since(host: Host, args: dict[str, Any]) -> str:
    """Return a user that came since and may use the module, or an empty string. An idle program holds no module."""
    known = args.get("users", ())
    return next((user for user in kvm_users.kvm_users(host, str(args["name"])) if user not in known), "")


def module_stays(name: str, user: str) -> str:
    return f"module {name} stays, because {user} may use /dev/kvm. `modprobe --remove {name}` unloads it"

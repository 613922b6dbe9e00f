"""Verbs for users, groups and memberships (shadow-utils: userdel(8), groupdel(8), gpasswd(1))."""

from __future__ import annotations

from typing import Any

from nqrust.host.errors import PathMissing
from nqrust.host.port import Host, Kind, command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext

_USER_BUSY = 8  # userdel(8), EXIT VALUES: user currently logged in
_PRIMARY_GROUP = 8  # groupdel(8), EXIT VALUES: can't remove user's primary group


def undo_user(name: str) -> Undo:
    return Undo("user", {"name": name})


def undo_group(name: str) -> Undo:
    return Undo("group", {"name": name})


def undo_member(group: str, user: str) -> Undo:
    return Undo("member", {"group": group, "user": user})


def user(context: UndoContext, args: dict[str, Any]) -> Outcome:
    name = str(args["name"])
    if context.host.user(name) is None:
        return Reverted("already gone")
    if why := user_stays(context, name):
        return Partly(why)
    if remove_user(context.host, name) == _USER_BUSY:
        return Kept(f"user {name} still has running processes")
    return Reverted()


def user_stays(context: UndoContext, name: str) -> str:
    """Return why the user stays; empty if it owns nothing of what stays. The next account could get its number, and with it files
    such as images of a private registry."""
    found = context.host.user(name)
    paths = sorted({undo.path for undo in context.staying if undo.path})
    tops = (path for path in paths if not any(path.startswith(f"{other}/") for other in paths))
    owned = next((at for top in tops if (at := _owned(context.host, top, found.uid))), "") if found is not None else ""
    return f"user {name} stays, because {owned} stays and is its" if owned else ""


def _owned(host: Host, path: str, uid: int) -> str:
    """Return the first of the path and what is below it that belongs to this number; empty if nothing does."""
    stat = host.stat(path)
    if stat is None or stat.uid == uid:
        return path if stat is not None else ""
    try:
        names = host.listdir(path) if stat.kind is Kind.directory else []
    except PathMissing:
        return ""
    return next((at for name in names if (at := _owned(host, f"{path}/{name}", uid))), "")


def remove_user(host: Host, name: str) -> int:
    """Remove only the user and return the exit code. With USERGROUPS_ENAB (login.defs(5)) userdel(8) also deletes a primary
    group of the same name, with password and administrators. That group may be older, so the user first leaves it; nqr's own
    group has its own record. Without a named home, usermod(8) gives no files to the other group."""
    found, own = host.user(name), host.group(name)
    if found is not None and own is not None and found.gid == own.gid:
        other = next((other for other in ("nogroup", "nobody") if host.group(other) is not None), "root")
        moved = command("usermod", "--gid", other, "--home", "/nonexistent", name, ok=(0, 6, _USER_BUSY))
        if (code := host.run(moved).code) != 0:
            return code
    return host.run(command("userdel", name, ok=(0, 6, _USER_BUSY))).code


def group(context: UndoContext, args: dict[str, Any]) -> Outcome:
    name = str(args["name"])
    if context.host.group(name) is None:
        return Reverted("already gone")
    if why := group_stays(context, name):
        return Partly(why)
    done = context.host.run(command("groupdel", name, ok=(0, 6, _PRIMARY_GROUP)))
    if done.code == _PRIMARY_GROUP:
        return Kept(f"group {name} is the primary group of a user that is not ours")
    return Reverted()


def group_stays(context: UndoContext, name: str) -> str:
    """Return why the group stays; empty if it is no primary group of a user that stays."""
    found = context.host.group(name)
    users = (context.host.user(str(undo.args["name"])) for undo in context.staying if undo.verb == "user")
    theirs = next((user for user in users if user is not None and found is not None and user.gid == found.gid), None)
    return f"group {name} stays with the user {theirs.name}" if theirs is not None else ""


def member(context: UndoContext, args: dict[str, Any]) -> Outcome:
    group_name, user_name = str(args["group"]), str(args["user"])
    found = context.host.group(group_name)
    if found is None or user_name not in found.members:
        return Reverted("already gone")
    context.host.run(command("gpasswd", "--delete", user_name, group_name))
    return Reverted()

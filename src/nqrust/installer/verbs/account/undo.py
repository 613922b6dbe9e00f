"""Verbs for users, groups and memberships (shadow-utils: userdel(8), groupdel(8), gpasswd(1))."""

from __future__ import annotations

from typing import Any

from nqrust.host.port import Host, command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Reverted, UndoContext

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
    if remove_user(context.host, name) == _USER_BUSY:
        return Kept(f"user {name} still has running processes")
    return Reverted()


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
    done = context.host.run(command("groupdel", name, ok=(0, 6, _PRIMARY_GROUP)))
    if done.code == _PRIMARY_GROUP:
        return Kept(f"group {name} is the primary group of a user that is not ours")
    return Reverted()


def member(context: UndoContext, args: dict[str, Any]) -> Outcome:
    group_name, user_name = str(args["group"]), str(args["user"])
    found = context.host.group(group_name)
    if found is None or user_name not in found.members:
        return Reverted("already gone")
    context.host.run(command("gpasswd", "--delete", user_name, group_name))
    return Reverted()

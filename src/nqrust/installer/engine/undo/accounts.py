"""Verbs for users, groups and memberships (shadow-utils: userdel(8), groupdel(8), gpasswd(1))."""

from __future__ import annotations

from typing import Any

from nqrust.host.port import command
from nqrust.installer.engine.undo.outcome import Kept, Outcome, Reverted, UndoContext

_USER_BUSY = 8  # userdel(8), EXIT VALUES: user currently logged in
_PRIMARY_GROUP = 8  # groupdel(8), EXIT VALUES: can't remove user's primary group


def user(context: UndoContext, args: dict[str, Any]) -> Outcome:
    name = str(args["name"])
    if context.host.user(name) is None:
        return Reverted("already gone")
    done = context.host.run(command("userdel", name, ok=(0, 6, _USER_BUSY)))
    if done.code == _USER_BUSY:
        return Kept(f"user {name} still has running processes")
    return Reverted()


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

"""Suggestions for a wrong word: a typing error, a command of another group, or a word of docker, incus, multipass or kubectl."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from nqrust.cli.tree import ALIASES, SHORTCUTS, canonical
from nqrust.contract.text import plain

_ELSEWHERE = {
    "launch": "vm create", "new": "vm create", "kill": "vm stop", "halt": "vm stop", "shutdown": "vm stop",
    "destroy": "vm rm", "purge": "vm rm", "terminate": "vm rm", "reboot": "vm restart", "suspend": "vm pause", "freeze": "vm pause",
    "unpause": "vm resume", "attach": "vm console", "get": "vm ls", "describe": "vm show", "instances": "vm ls",
    "containers": "vm ls", "nodes": "host ls", "join": "host token",
    "passwd": "user password", "whoami": "token ls", "update": "install", "upgrade": "install",
    "self-update": "install", "find": "image ls", "search": "image ls", "login": "token create",
    "commit": "vm snapshot create", "restore": "vm snapshot restore", "transfer": "vm cp", "port": "vm forward", "top": "vm show",
    "stats": "vm show", "snapshots": "vm snapshot ls",
}  # fmt: skip
"""Words of other programs, and the command of nqr."""
_OPTIONS = {
    "--cpu": "--vcpus", "--ram": "--memory", "-m": "--memory", "-c": "--vcpus", "-p": "--forward", "--publish": "--forward",
    "--port": "--forward", "--format": "--output", "--json": "--output", "-y": "--non-interactive", "--yes": "--non-interactive",
    "--assume-yes": "--non-interactive", "--storage": "--disk", "--size": "--disk", "--label": "--tag", "-l": "--tag",
}  # fmt: skip
_IN_GROUPS = {
    "volume create": "volume attach", "network ls": "network status", "network list": "network status", "host add": "host token",
    "host join": "host token", "config set": "install", "config get": "config show",
}  # fmt: skip
"""Words of other programs in a group that has another word, and the command of nqr."""
_GROUPS = {"container": "vm", "instance": "vm", "machine": "vm", "profile": "template", "node": "host"}
"""Groups of other programs, and the group of nqr."""
_NEEDLESS = {
    "nqr vm ls": (("-a", "--all"), "the list has all VMs, stopped ones too"),
    "nqr vm run": (("-i", "-t", "--interactive", "--tty"), "for a terminal in the VM, use `nqr vm shell NAME`"),
}
"""Command -> options of other programs that it does without, and the reason."""
_FIRST = ("vm", "image", "host", "volume")
"""Groups that a word without a group means first."""


def option(word: str, known: Sequence[str], path: str = "") -> str:
    """Return the question that names the option meant, or why `path` needs none, or ""."""
    needless, why = _NEEDLESS.get(path, ((), ""))
    if word in needless:
        return f"Leave it out: {why}."
    meant = _OPTIONS.get(word, "")
    return f"Did you mean {meant}?" if meant in known else near(word, known)


def near(word: str, known: Iterable[str]) -> str:
    """Return the question that names the closest known word, or ""."""
    found = _closest(word, known)
    return f"Did you mean {found}?" if found else ""


def command(word: str, path: Sequence[str], rest: Sequence[str], root: Any) -> str:
    """Return the question that names the command meant, or "". `path`: the group before the word; `rest`: the words after it."""
    groups = {name: inner.commands for name, inner in root.commands.items() if hasattr(inner, "commands")}
    if word == "help":
        return f"Did you mean `{shlex.join(['nqr', *path, *(plain(one) for one in rest)])} --help`?"
    meant = _within(word, path, root) if path else _anywhere(word, groups, root)
    if not meant:
        return ""
    words = shlex.join(plain(one) for one in rest)
    return f"Did you mean `nqr {meant}{' ' + words if words else ''}`?"


def _within(word: str, path: Sequence[str], root: Any) -> str:
    meant = _IN_GROUPS.get(" ".join([*path, word]))
    if meant is not None:
        return meant
    here: Any = root
    for name in path:
        here = here.commands[name]
    found = _closest(word, [*here.commands, *(a for a, name in ALIASES.items() if name in here.commands)])
    if found:
        return " ".join([*path, canonical(here.commands, found)])
    if list(path) == ["vm", "snapshot"]:
        return f"vm snapshot create {shlex.quote(plain(word))}"  # the word is a VM
    group, _, name = _ELSEWHERE.get(word, "").partition(" ")
    if name in here.commands:
        return " ".join([*path, name])
    return f"{group} {name}" if name in getattr(root.commands.get(group), "commands", {}) else ""


def _anywhere(word: str, groups: dict[str, Any], root: Any) -> str:
    if word in _ELSEWHERE:
        return _ELSEWHERE[word]
    if word in _GROUPS:
        return _GROUPS[word]
    for group in sorted(groups, key=lambda one: (one not in _FIRST, _FIRST.index(one) if one in _FIRST else 0)):
        name = canonical(groups[group], word)
        if name in groups[group]:
            return f"{group} {name}"
    if word.endswith("s") and "ls" in groups.get(word[:-1], {}):
        return f"{word[:-1]} ls"
    known = {name: f"vm {name}" for name in groups["vm"]}
    known |= {one: f"{group} {name}" for one, (group, name) in SHORTCUTS.items() if name in groups[group]}
    known |= {name: name for name in root.commands}
    return known.get(_closest(word, known), "")


def _closest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.68)
    return found[0] if found else ""

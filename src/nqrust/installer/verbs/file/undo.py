"""Verbs for files, blocks, directories, modes and symlinks.

A user's edit is never overwritten and never lost: what is not what we left is moved aside beside its path, with the
suffix `.nqr-kept`, and reported.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
from typing import Any

from nqrust.host.durable import temporary_name
from nqrust.host.errors import PathError
from nqrust.host.port import Host, Kind
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext
from nqrust.installer.verbs import cluster_data

KEPT_SUFFIX = ".nqr-kept"


def undo_file(path: str, *, ours_sha256: str | None, retain: Retain = Retain.nothing) -> Undo:
    """Put back what was at `path` before (the engine fills in `prior` and keeps its content) or remove the file.

    `ours_sha256`: the content we leave there; if something else is found when reverting, someone changed it since,
    and it is moved aside and reported. None: whatever is there counts as ours (files that our services rewrite).
    """
    return Undo("file", {"path": path, "ours": ours_sha256}, retain)


def undo_block(path: str, marker: str) -> Undo:
    """Take our marked block out of a shared file; remove the file if we created it and nothing else is in it."""
    return Undo("block", {"path": path, "marker": marker})


def undo_block_text(path: str, marker: str, *, prior: str) -> Undo:
    """Give our marked block in a shared file the text that it had before, markers included."""
    return Undo("block_text", {"path": path, "marker": marker, "prior": prior})


def undo_directory(path: str, *, tree: bool = False, retain: Retain = Retain.nothing) -> Undo:
    """Remove a directory that we created: only when empty, or (`tree`) with all that is in it."""
    return Undo("directory", {"path": path, "tree": tree}, retain)


def undo_contents(path: str, *, retain: Retain = Retain.nothing) -> Undo:
    """Empty a directory that was there before us, and empty; it stays."""
    return Undo("contents", {"path": path}, retain)


def undo_mode(path: str, mode: int, owner: str, group: str) -> Undo:
    """Give a path its previous mode (12 bits) and owners back."""
    return Undo("mode", {"path": path, "mode": mode, "owner": owner, "group": group})


def undo_symlink(path: str, *, ours: str, prior: str | None) -> Undo:
    """Point a symlink back to `prior`, or remove it; left alone when it no longer points to `ours`."""
    return Undo("symlink", {"path": path, "ours": ours, "prior": prior})


def file(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Put the prior content back (or nothing, where there was nothing)."""
    host, path, prior, ours = context.host, str(args["path"]), args.get("prior"), args.get("ours")
    clear_leftover(host, path)
    stat = host.stat(path)
    if prior is not None and is_prior(host, path, prior):
        return Reverted("already as it was")
    kept: Kept | None = None
    if stat is not None and not is_ours(host, path, ours):
        aside = move_aside(host, path)
        kept = Kept(f"{path} was changed since; your version is kept", aside)
    elif stat is None and prior is not None and ours is not None:
        kept = Kept(f"{path} was removed since; the original was put back", path)
    if prior is None:
        if kept is None:
            host.remove(path)
    elif host.stat(posixpath.dirname(path)) is None:
        return Kept(f"{posixpath.dirname(path)} is gone, so {path} was not put back", "")
    elif prior["kind"] == "symlink":
        if kept is None and stat is not None:
            host.remove(path)
        host.symlink(prior["target"], path)
    else:
        content, (owner, group, gone) = context.originals.read(prior["sha256"]), owners(host, prior["owner"], prior["group"])
        host.write_file(path, content, mode=prior["mode"], owner=owner, group=group, xattrs=_xattrs(prior))
        kept = kept or (Kept(f"{path} is {owner}'s now: {gone}", path) if gone else None)
    return kept or Reverted()


def owners(host: Host, owner: str, group: str, instead: tuple[str, str] = ("root", "root")) -> tuple[str, str, str]:
    """(user, group, what is wrong): those of a record where they still exist, else the others. Names or numbers."""
    lacks = [f"user {owner} is gone"] if not owner.isdecimal() and host.user(owner) is None else []
    lacks += [f"group {group} is gone"] if not group.isdecimal() and host.group(group) is None else []
    return (*(instead if lacks else (owner, group)), " and ".join(lacks))


def clear_leftover(host: Host, path: str) -> None:
    """What a write of `path` that was cut off left beside it goes, whatever becomes of `path` itself."""
    folder, name = posixpath.split(path)
    host.remove(posixpath.join(folder, temporary_name(name)))


def is_prior(host: Host, path: str, prior: dict[str, Any] | None) -> bool:
    stat = host.stat(path)
    if prior is None or stat is None:
        return prior is None and stat is None
    if prior["kind"] == "symlink":
        return stat.kind is Kind.symlink and host.readlink(path) == prior["target"]
    return (
        stat.kind is Kind.file
        and (stat.mode, stat.owner, stat.group) == (prior["mode"], prior["owner"], prior["group"])
        and host.sha256(path) == prior["sha256"]
        and host.xattrs(path) == _xattrs(prior)
    )


def _xattrs(prior: dict[str, Any]) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in prior.get("xattrs", {}).items()}


def is_ours(host: Host, path: str, ours: str | None) -> bool:
    stat = host.stat(path)
    if stat is None or stat.kind is not Kind.file:
        return False
    return ours is None or host.sha256(path) == ours


def move_aside(host: Host, path: str) -> str:
    """Rename `path` to the first free `path.nqr-kept[.N]` and give that name."""
    number, aside = 1, path + KEPT_SUFFIX
    while host.stat(aside) is not None:
        number += 1
        aside = f"{path}{KEPT_SUFFIX}.{number}"
    host.rename(path, aside)
    return aside


def text_of(host: Host, path: str) -> str:
    """Content of a file that others share, in whatever encoding: `bytes_of` gives every byte back."""
    return host.read_bytes(path).decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def markers(marker: str) -> tuple[str, str]:
    """The two lines between which a block of ours stands in a shared file."""
    return f"# BEGIN {marker}", f"# END {marker}"


def block_of(text: str, marker: str) -> str:
    """Our block as it stands in `text`, its markers included; "" when there is none or it is not closed."""
    lines, place = _block(text, marker)
    return "".join(lines[place])


def with_block(text: str, marker: str, new: str) -> str:
    """`text` with `new` in the place of our block, its markers included; unchanged when there is none or it is not closed."""
    lines, place = _block(text, marker)
    return "".join([*lines[: place.start], new, *lines[place.stop :]]) if place.stop else text


def without_block(text: str, marker: str) -> str:
    """`text` less our block, its markers included; unchanged when there is none or it is not closed."""
    return with_block(text, marker, "")


def _block(text: str, marker: str) -> tuple[list[str], slice]:
    """Lines, and which of them are our block."""
    begin, end = markers(marker)
    lines = text.splitlines(keepends=True)
    bare = [line.strip() for line in lines]
    if begin not in bare or end not in bare[bare.index(begin) :]:
        return lines, slice(0, 0)
    first = bare.index(begin)
    return lines, slice(first, bare.index(end, first) + 1)


def block(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Take our block out; edits around it stay. A file that we made and that is empty then goes too."""
    return _replace_block(context.host, args, "")


def block_text(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Give our block the text that it had before; edits around it stay. One that is gone by now stays gone."""
    return _replace_block(context.host, args, str(args["prior"]))


def _replace_block(host: Host, args: dict[str, Any], new: str) -> Outcome:
    path, marker = str(args["path"]), str(args["marker"])
    clear_leftover(host, path)
    stat = host.stat(path)
    if stat is None:
        return Reverted("the file is gone")
    if stat.kind is not Kind.file:
        return Kept(f"{path} is no longer a file", path)
    text = text_of(host, path)
    if not block_of(text, marker):
        return (
            Reverted("the block is gone")
            if markers(marker)[0] not in text
            else Kept(f"our block in {path} has lost its end", path)
        )
    rest = with_block(text, marker, new)
    if not rest.strip() and args.get("created"):
        host.remove(path)
    else:
        host.write_file(path, bytes_of(rest), mode=stat.mode, owner=stat.owner, group=stat.group, xattrs=host.xattrs(path))
    return Reverted()


def directory(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Remove a directory of ours: when empty, or (`tree`) with what is in it, except files the user's edit left aside."""
    host, path = context.host, str(args["path"])
    stat = host.stat(path)
    if stat is None:
        return Reverted("already gone")
    if stat.kind is not Kind.directory:
        return Kept(f"{path} is no longer a directory", path)
    if args.get("tree"):
        edits = host.glob(f"{path}/*{KEPT_SUFFIX}*")
        if edits:  # moved aside a moment ago
            return Kept(f"{path} holds your version of what was changed ({', '.join(edits[:3])})", path)
        if cluster_data.is_used(host, path):
            return Partly(cluster_data.stays([path]))
        host.remove_tree(path)
        return Reverted()
    left = host.listdir(path)
    if left:
        return Kept(f"{path} holds what is not ours ({', '.join(left[:3])}{' …' if len(left) > 3 else ''})", path)
    try:
        host.rmdir(path)
    except PathError as error:
        return Kept(f"{path} could not be removed: {error}", path)
    return Reverted()


def contents(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Empty a directory that was there, and empty; a cluster that holds data of others by now stays."""
    host, path = context.host, str(args["path"])
    if cluster_data.is_used(host, path):
        return Partly(cluster_data.stays([path]))
    remove_contents(host, path)
    return Reverted()


def remove_contents(host: Host, path: str) -> None:
    """All that is in a directory, if that is there. Raises PathError where something is mounted below it."""
    for name in host.listdir(path) if host.exists(path) else ():
        below = posixpath.join(path, name)
        stat = host.stat(below)
        if stat is not None and stat.kind is Kind.directory:
            host.remove_tree(below)
        else:
            host.remove(below)


def mode(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Give a path its previous mode and owners back."""
    host, path = context.host, str(args["path"])
    stat = host.stat(path)
    if stat is None:
        return Reverted("already gone")
    if cluster_data.is_used(host, path):
        return Partly(f"{path} keeps its mode and owner, which its PostgreSQL needs")
    owner, group, gone = owners(host, str(args["owner"]), str(args["group"]), (str(stat.uid), str(stat.gid)))
    host.set_mode(path, mode=int(args["mode"]), owner=owner, group=group)
    return Kept(f"{path} keeps its owner: {gone}", path) if gone else Reverted()


def symlink(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Point it back, or remove it; left alone when it no longer points to what we set."""
    host, path, prior = context.host, str(args["path"]), args.get("prior")
    clear_leftover(host, path)
    stat = host.stat(path)
    if stat is None:
        if prior is not None and host.stat(posixpath.dirname(path)) is not None:
            host.symlink(str(prior), path)
        return Reverted()
    if not is_our_link(host, path, args):
        return Kept(f"{path} was changed since", path)
    if prior is None:
        host.remove(path)
    elif host.readlink(path) != prior:
        host.symlink(str(prior), path)
    return Reverted()


def is_our_link(host: Host, path: str, args: dict[str, Any]) -> bool:
    stat = host.stat(path)
    return stat is not None and stat.kind is Kind.symlink and host.readlink(path) in (args["ours"], args.get("prior"))


def digest(data: bytes) -> str:
    """Hex sha256, the form in which `ours` is recorded."""
    return hashlib.sha256(data).hexdigest()

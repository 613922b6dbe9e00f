"""Verbs for files, blocks, directories, modes and symlinks.

nqr never overwrites or loses a user's edit. It moves content that it did not write aside, with the suffix `.nqr-kept`, and
reports it.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
from typing import Any

from nqrust.host.durable import temporary_name
from nqrust.host.errors import HostError, PathError
from nqrust.host.port import Host, Kind, command
from nqrust.host.way import way
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext
from nqrust.installer.verbs import cluster_data

KEPT_SUFFIX = ".nqr-kept"


def undo_file(path: str, *, ours_sha256: str | None, retain: Retain = Retain.nothing) -> Undo:
    """Restore the original at `path` (the engine fills in `prior` and keeps its content) or remove the file.

    `ours_sha256`: the content that nqr leaves. If the undo finds other content, someone changed it, and nqr moves it aside
    and reports it. None: any content counts as nqr's (files that its services rewrite).
    """
    return Undo("file", {"path": path, "ours": ours_sha256}, retain)


def undo_block(path: str, marker: str) -> Undo:
    """Remove nqr's marked block from a shared file. Remove the file if nqr created it and nothing else is in it."""
    return Undo("block", {"path": path, "marker": marker})


def undo_block_text(path: str, marker: str, *, prior: str) -> Undo:
    """Restore the previous text of nqr's marked block in a shared file, markers included."""
    return Undo("block_text", {"path": path, "marker": marker, "prior": prior})


def undo_directory(path: str, *, tree: bool = False, retain: Retain = Retain.nothing) -> Undo:
    """Remove a directory that nqr created: only if empty, or (`tree`) with its content."""
    return Undo("directory", {"path": path, "tree": tree}, retain)


def undo_half(path: str) -> Undo:
    """Remove a directory that an interrupted step left, also where the rest of the step's records stay."""
    return Undo("directory", {"path": path, "tree": True, "half": True})


def undo_contents(path: str, *, retain: Retain = Retain.nothing) -> Undo:
    """Empty a directory that existed before nqr and was empty; the directory stays."""
    return Undo("contents", {"path": path}, retain)


def undo_mode(path: str, mode: int, owner: str, group: str) -> Undo:
    """Restore a path's previous mode (12 bits) and owners."""
    return Undo("mode", {"path": path, "mode": mode, "owner": owner, "group": group})


def undo_symlink(path: str, *, ours: str, prior: str | None) -> Undo:
    """Point a symlink back to `prior`, or remove it. Leaves it alone if it no longer points to `ours`."""
    return Undo("symlink", {"path": path, "ours": ours, "prior": prior})


def file(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Restore the prior content, or remove the file if there was none."""
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
    """Return (user, group, problem): a record's names or numbers if they still exist, otherwise those of `instead`."""
    lacks = [f"user {owner} is gone"] if not owner.isdecimal() and host.user(owner) is None else []
    lacks += [f"group {group} is gone"] if not group.isdecimal() and host.group(group) is None else []
    return (*(instead if lacks else (owner, group)), " and ".join(lacks))


def clear_leftover(host: Host, path: str) -> None:
    """Remove the temporary file of an interrupted write of `path`, and leave `path` alone."""
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
    """Rename `path` to the first free `path.nqr-kept[.N]` and return that name."""
    number, aside = 1, path + KEPT_SUFFIX
    while host.stat(aside) is not None:
        number += 1
        aside = f"{path}{KEPT_SUFFIX}.{number}"
    host.rename(path, aside)
    return aside


def text_of(host: Host, path: str) -> str:
    """Return the content of a shared file. It is not a link."""
    read: list[bytes] = []
    host.edit_file(path, read.append)
    return as_text(read[0])


def as_text(data: bytes) -> str:
    """Return content in any encoding as text; `bytes_of` returns the same bytes."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def markers(marker: str) -> tuple[str, str]:
    """Return the two lines around nqr's block in a shared file."""
    return f"# BEGIN {marker}", f"# END {marker}"


def block_of(text: str, marker: str) -> str:
    """Return nqr's block in `text`, markers included; "" if there is none or it is not closed."""
    lines, place = _block(text, marker)
    return "".join(lines[place])


def with_block(text: str, marker: str, new: str) -> str:
    """Replace nqr's block in `text`, markers included, with `new`. No change if there is none or it is not closed."""
    lines, place = _block(text, marker)
    return "".join([*lines[: place.start], new, *lines[place.stop :]]) if place.stop else text


def _block(text: str, marker: str) -> tuple[list[str], slice]:
    """Return the lines, and the slice of nqr's block."""
    begin, end = markers(marker)
    lines = text.splitlines(keepends=True)
    bare = [line.strip() for line in lines]
    if begin not in bare or end not in bare[bare.index(begin) :]:
        return lines, slice(0, 0)
    first = bare.index(begin)
    return lines, slice(first, bare.index(end, first) + 1)


def block(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Remove nqr's block; edits around it stay. Then remove the file if nqr created it and it is empty."""
    return _replace_block(context.host, args, "")


def block_text(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Restore the previous text of nqr's block; edits around it stay. A block removed since stays removed."""
    return _replace_block(context.host, args, str(args["prior"]))


def _replace_block(host: Host, args: dict[str, Any], new: str) -> Outcome:
    path, marker = str(args["path"]), str(args["marker"])
    clear_leftover(host, path)
    stat = host.stat(path)
    if stat is None:
        return Reverted("the file is gone")
    if stat.kind is not Kind.file:
        return Kept(f"{path} is no longer a file", path)
    outcomes: list[Outcome] = []

    def change(before: bytes) -> bytes | None:
        """Wherever links led meanwhile, a file without the block stays as it is."""
        text = as_text(before)
        if block_of(text, marker):
            outcomes.append(Reverted())
            return bytes_of(with_block(text, marker, new))
        is_open = markers(marker)[0] in text
        outcomes.append(Kept(f"our block in {path} has lost its end", path) if is_open else Reverted("the block is gone"))
        return None

    host.edit_file(path, change, remove_empty=bool(args.get("created")))
    return outcomes[0]


def directory(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Remove nqr's directory if empty, or (`tree`) with its content, except files moved aside for the user. A directory that holds
    what stays waits for that."""
    host, path = context.host, str(args["path"])
    stat = host.stat(path)
    if stat is None:
        return Reverted("already gone")
    if stat.kind is not Kind.directory:
        return Kept(f"{path} is no longer a directory", path)
    if why := context.held(path):
        return Partly(why)
    if args.get("tree"):
        edits = host.glob(f"{path}/*{KEPT_SUFFIX}*")
        if edits:  # moved aside by this undo
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
    """Empty a directory that existed and was empty. One that holds what stays waits for that, and a cluster with data of others
    stays."""
    host, path = context.host, str(args["path"])
    stat = host.stat(path)
    if stat is not None and stat.kind not in (Kind.directory, Kind.symlink):
        return Kept(f"{path} is no longer a directory", path)
    if why := context.held(path):
        return Partly(why)
    if cluster_data.is_used(host, path):
        return Partly(cluster_data.stays([path]))
    if not remove_contents(host, path):
        return Kept(f"{path} is a link that other users can change, and what is behind it stays", path)
    return Reverted()


def remove_contents(host: Host, path: str) -> bool:
    """Remove a directory's content, if the directory exists. Raises PathError if something is mounted below it.

    If another user than root can change a link on the way, the removal has that user's rights. Returns False if several can, or
    if something stays.
    """
    changers = _changers(host, path)
    if changers:
        if None in changers or len(changers) > 1:
            return False
        (owner,) = changers
        assert owner is not None
        try:
            return host.run(command("find", f"{path}/", "-xdev", "-mindepth", "1", "-delete", user=owner, ok=(0, 1))).code == 0
        except HostError:  # a number without an account
            return False
    for name in host.listdir(path) if host.exists(path) else ():
        below = posixpath.join(path, name)
        stat = host.stat(below)
        if stat is not None and stat.kind is Kind.directory:
            host.remove_tree(below)
        else:
            host.remove(below)
    return True


def _changers(host: Host, path: str) -> set[str | None]:
    """Return who, besides root, can change links on the way to `path`; None: several users."""
    found, users, sticky = set[str | None](), set[str | None](), False
    for _, stat in way(host, path):
        if sticky and stat.uid != 0:
            users.add(None)
        if stat.kind is Kind.symlink:
            found |= users
            continue
        shared, sticky = bool(stat.mode & 0o022), bool(stat.mode & 0o1000)
        if shared and not sticky:
            users.add(None)
        elif stat.uid != 0:
            users.add(stat.owner)
    return found


def mode(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Restore a path's previous mode and owners."""
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
    """Point it back, or remove it. Leaves it alone if it no longer points to nqr's target."""
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
    """Return the hex sha256, the form of `ours` in records."""
    return hashlib.sha256(data).hexdigest()

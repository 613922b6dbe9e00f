"""Makes an ext4 of a tree, without a mount and without root.

A folder is filled from the tree, mke2fs(8) copies it, and debugfs(8) sets the owners and modes that an unprivileged user cannot
give to files: no file on the host ever has a set-user-id bit or another owner.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image.errors import ImageError
from nqrust.image.ext4 import FEATURES
from nqrust.image.oci.tree import Is, Node, Tree, hostile, shown

HEADROOM_MIB = 128
_SET_ID = 0o7000
_LONGEST_LINE = 8000
"""debugfs reads lines into a buffer of 8192 bytes."""
_TYPES = {Is.directory: 0o040000, Is.file: 0o100000, Is.symlink: 0o120000}


def size_mib(tree: Tree) -> int:
    """Return the MiB of the file system: its blocks, an eighth for inodes and bitmaps, the journal, and free space."""
    blocks, seen = 0, set[int]()
    for _, node in tree.walk():
        if id(node) not in seen:
            seen.add(id(node))
            blocks += -(-node.size // 4096) if node.kind is Is.file else 1 + len(node.children) // 60
    return -(-(blocks * 4096 * 9 // 8 // 2**20 + 16 + HEADROOM_MIB) // 16) * 16


def stage(tree: Tree, contents: str, root: str) -> None:
    """Fill the new folder `root`. Moves the files out of `contents`. Raises OSError."""
    names: dict[int, str] = {}
    folders: list[tuple[str, Node]] = []
    os.mkdir(root, 0o700)
    for path, node in tree.walk():
        place = f"{root}{path}"
        if node.kind is Is.directory:
            if path != "/":
                os.mkdir(place, 0o700)
            folders.append((place, node))
        elif id(node) in names:
            os.link(names[id(node)], place, follow_symlinks=False)
        else:
            names[id(node)] = place
            if node.kind is Is.symlink:
                os.symlink(node.target, place)
            else:
                os.rename(f"{contents}/{node.content}", place)
                os.chmod(place, _staged_mode(node))
            os.utime(place, (node.mtime, node.mtime), follow_symlinks=False)
    for place, node in reversed(folders):
        os.chmod(place, _staged_mode(node))
        os.utime(place, (node.mtime, node.mtime))


def _staged_mode(node: Node) -> int:
    return (node.mode & ~_SET_ID) | (0o700 if node.kind is Is.directory else 0o600)


def corrections(tree: Tree, uid: int, gid: int) -> Iterator[str]:
    """Yield the debugfs commands that give every file its owner and mode. `uid`, `gid`: those of the files in the folder. Pure."""
    seen = set[int]()
    for path, node in tree.walk():
        if id(node) in seen:
            continue
        seen.add(id(node))
        quoted = path.replace('"', '""')
        values = {}
        if path == "/":
            values = {"uid": str(node.uid), "gid": str(node.gid)}
        if node.uid != uid:
            values["uid"] = str(node.uid)
        if node.gid != gid:
            values["gid"] = str(node.gid)
        if node.kind is not Is.symlink and node.mode != _staged_mode(node):
            values["mode"] = f"0{_TYPES[node.kind] | node.mode:o}"
        for field, value in values.items():
            line = f'sif "{quoted}" {field} {value}'
            if len(line.encode(errors="surrogateescape")) > _LONGEST_LINE:
                raise hostile(f"the name {shown(path)} is too long")
            yield line


def make(host: Host, tree: Tree, root: str, target: str) -> int:
    """Create `target` from the filled folder `root`. Return its size in MiB. Raises ImageError NQR-IMG-037."""
    size = size_mib(tree)
    inodes = sum(1 for _ in tree.walk()) * 5 // 4 + size * 64
    commands = "\n".join([*corrections(tree, os.geteuid(), os.getegid()), "quit", ""])
    try:
        host.run(
            command(
                "mke2fs", "-q", "-F", "-t", "ext4", "-O", FEATURES, "-b", "4096", "-I", "256", "-N", str(inodes), "-m", "0",
                "-J", "size=8", "-L", "root", "-M", "/", "-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,nodiscard",
                "-d", root, target, f"{size}M",
                timeout=1800,
            )
        )  # fmt: skip
        told = host.run(
            command("debugfs", "-w", "-f", "/dev/stdin", target, input=commands.encode(errors="surrogateescape"), timeout=1800)
        )
    except HostError as error:
        raise _failed(str(error)) from error
    # debugfs exits with 0 whatever happens. Its banner is the first line.
    wrong = [line for line in told.stderr.splitlines() if line and not line.startswith("debugfs 1.")]
    if wrong:
        raise _failed(f"debugfs: {wrong[0]}")
    return size


def _failed(why: str) -> ImageError:
    return ImageError(
        "NQR-IMG-037",
        f"The file system of the image could not be made: {why}.",
        "Install e2fsprogs 1.43 or newer and check the free space, then pull again.",
    )

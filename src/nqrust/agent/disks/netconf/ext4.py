"""Looks into an ext4 file system with debugfs(8), which resolves links inside it.

It asks for sizes first and skips files above a limit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nqrust.agent.disks import tools
from nqrust.agent.disks.netconf.image import LARGEST_FOLDER, LARGEST_TEXT, MOST_NAMES, Image, Wanted
from nqrust.host.port import Host

_PLAIN = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]{0,99}")
_REPEATED = re.compile(r"^debugfs: (.*)\n", re.MULTILINE)
_ENTRY = re.compile(r"/\d+/(\d{6})/\d+/\d+/([^/]+)/(\d*)/")


def look(host: Host, disk: str, folder: str, wanted: Wanted) -> Image:
    """Return the facts in `wanted` about the file system in `disk`. `folder`: an empty one of the caller, for copies.

    Raises HostError.
    """
    paths = wanted.everything()
    found = parse(_debugfs(host, disk, folder, [f"stat {path}" for path in paths]), paths)
    kinds = {path: kind for path, (kind, _, _) in found.items()}
    listed = [path for path in wanted.folders if kinds.get(path) == "directory" and found[path][1] <= LARGEST_FOLDER]
    names: dict[str, Sequence[str] | None] = {path: None for path in wanted.folders if path in kinds}
    sizes = {path: found[path][1] if kinds[path] == "regular" else None for path in wanted.texts if path in kinds}
    asked = [f"ls -p {path}" for path in listed]
    told = answers(_debugfs(host, disk, folder, asked), asked) if asked else {}
    for path in listed:
        entries = entries_of(told.get(f"ls -p {path}", "?"))
        names[path] = [name for name, _ in entries] if entries is not None else None
        for name, size in entries or []:
            sizes[f"{path}/{name}"] = size if _PLAIN.fullmatch(name) else None
    readable = [path for path, size in sizes.items() if size is not None and size <= LARGEST_TEXT]
    if readable:
        _debugfs(host, disk, folder, [f"dump {path} {folder}/look{number}" for number, path in enumerate(readable)])
    texts: dict[str, str | None] = dict.fromkeys(sizes)
    for number, path in enumerate(readable):
        data = tools.written(host, disk, f"{folder}/look{number}", LARGEST_TEXT)
        if data is not None:
            texts[path] = data.decode(errors="replace")
            host.remove(f"{folder}/look{number}")
    links = {path: target for path, (_, _, target) in found.items() if target}
    return Image(kinds, links, texts, names)


def answers(text: str, asked: Sequence[str]) -> dict[str, str]:
    """Return what debugfs told after each line of its script, or nothing if it did not repeat exactly these lines: then a name or
    a link of the image holds lines that look like debugfs's own. Pure."""
    pieces = _REPEATED.split(text)
    return dict(zip(asked, pieces[2::2], strict=True)) if pieces[1::2] == list(asked) else {}


def parse(text: str, paths: Sequence[str]) -> dict[str, tuple[str, int, str]]:
    """Parse the output of debugfs's `stat PATH`: path -> type, bytes and, for a short link, its target. Pure."""
    found = {}
    told = answers(text, [f"stat {path}" for path in paths])
    for path, rest in zip(paths, told.values(), strict=False):
        kind = re.search(r"^Inode: \d+\s+Type: (\w+)", rest)
        size = re.search(r"\bSize: (\d+)$", rest, re.MULTILINE)
        link = re.search(r'^Fast link dest: "(.*)"', rest, re.MULTILINE)
        if kind:
            found[path] = kind[1], int(size[1]) if size else 0, link[1] if link else ""
    return found


def entries_of(text: str) -> list[tuple[str, int | None]] | None:
    """Parse what debugfs tells after `ls -p FOLDER`: names with the sizes of plain files. Pure.

    Returns None if there are too many names, or a name that spans several lines.
    """
    lines = [line for line in text.split("\n") if line]
    entries = [entry for line in lines if (entry := _ENTRY.fullmatch(line))]
    if len(entries) < len(lines) or len(entries) > MOST_NAMES:
        return None
    return [
        (entry[2], int(entry[3] or 0) if entry[1].startswith("100") else None) for entry in entries if entry[2] not in (".", "..")
    ]


def _debugfs(host: Host, disk: str, folder: str, lines: Sequence[str]) -> str:
    host.write_file(f"{folder}/look", "\n".join([*lines, ""]).encode(), mode=0o600, owner=tools.owner_of(host, disk))
    return tools.run(host, disk, "debugfs", "-f", f"{folder}/look", disk, grows=False).stdout

"""The platform's own files in an image of a container: the init and what it calls, below /.nqrust, and the folders it mounts on."""

from __future__ import annotations

from nqrust.contract.paths import GUEST_FOLDER
from nqrust.image import resources
from nqrust.image.oci.tree import Is, Node, Tree

INIT = f"{GUEST_FOLDER}/init"
_MOUNTED = ("dev", "proc", "sys")
_NEEDED = {"etc": 0o755, "run": 0o755, "tmp": 0o1777}
_LAST = 1_000
"""Number of the platform's own layer, above all others."""


def files(*, busybox: bytes, guest_agent: bytes) -> dict[str, tuple[int, bytes]]:
    """Return name below /.nqrust -> mode and content."""
    shell = f"#!{GUEST_FOLDER}/busybox sh\n".encode()
    script = resources.read("tiny/udhcpc-script").replace(b"#!/bin/sh\n", shell, 1)
    return {
        "init": (0o755, guest_agent),
        "busybox": (0o755, busybox),
        "dhcp": (0o755, script),
        "acpi/PWRF/00000080": (0o755, shell + b"# The power button: ask the init, which asks the process.\nexec kill -TERM 1\n"),
    }


def add(tree: Tree, contents: dict[str, tuple[int, bytes, int]]) -> None:
    """Put the files into the tree: name -> mode, content, number of the stored content. An image's own /.nqrust is replaced."""
    tree.root.children.pop(GUEST_FOLDER.strip("/"), None)
    for name, (mode, content, number) in contents.items():
        tree.put(f"{GUEST_FOLDER}/{name}", Node(Is.file, _LAST, mode, size=len(content), content=number))
    for name in _MOUNTED:
        there = tree.root.children.get(name)
        if there is None or there.kind is not Is.directory:
            tree.root.children[name] = Node(Is.directory, _LAST)
    for name, mode in _NEEDED.items():
        if tree.find(name) is None:
            tree.root.children[name] = Node(Is.directory, _LAST, mode)

"""The clone's file systems are those that the host has mounted, wherever users move the folders on the way meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nqrust.installer.rehearsal import tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")

SOURCE = Path(tree.__file__).parents[3]
UNTIL_COVERED = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from nqrust.host import namespaces as ns
from nqrust.host.mounts import MOUNTINFO, parse_mountinfo
from nqrust.installer.rehearsal import tree, uppers
from nqrust.installer.rehearsal.mounts import clone_mounts
from nqrust.installer.rehearsal.spec import CloneSpec, Uplink, Work

place = sys.argv[2]
scratch, root = f"{place}/scratch", f"{place}/scratch/root"
USER = {"user": 65534, "group": 65534, "extra_groups": []}

def mounts():
    return [one for one in parse_mountinfo(open(MOUNTINFO).read()) if one.mount_point == "/" or one.mount_point.startswith(place)]

def folder(name, owner=0):
    os.makedirs(f"{place}/{name}")
    os.chown(f"{place}/{name}", owner, owner)

ns.unshare(ns.CLONE_NEWNS)
ns.mount("none", "/", flags=ns.MS_REC | ns.MS_PRIVATE)
ns.mount("disk", place, "tmpfs", data="mode=0755")
folder("scratch")
folder("home", 65534)
folder("home/x", 65534)
folder("home/x/files")
folder("seen")
ns.mount("disk of the user", f"{place}/home/x/files", "tmpfs", ns.MS_NOSUID, "mode=0755")
with open(f"{place}/home/x/files/data", "w") as file:
    file.write("of the disk")
ns.mount("seen", f"{place}/seen", "tmpfs", ns.MS_RDONLY | ns.MS_NOSUID | ns.MS_NOEXEC)
with open(f"{place}/name", "w"):
    pass
ns.bind("/etc/passwd", f"{place}/name")
made, _ = clone_mounts(mounts(), frozenset({f"{place}/name"}))
"""
COVER = """
spec = CloneSpec(os.getpid(), scratch, 0, False, False, "h", made, Uplink(), "", (), "", (), (), "", (), Work(()))
_, layers, failed = tree.cover(spec)
"""
TELL = """
print(json.dumps({
    "forms": {one.path.removeprefix(place): one.form for one in made},
    "failed": [path.removeprefix(place) for path in failed],
    "options": {one.mount_point.removeprefix(root + place): one.options for one in mounts() if one.mount_point.startswith(root + place)},
    "outside": [one.mount_point for one in mounts() if not (one.mount_point + "/").startswith(scratch + "/")],
    "written": [[one.sign, one.path.removeprefix(place)] for layer in layers for one in uppers.written(layer, {})],
}))
"""


def in_a_namespace(tmp_path: Path, *lines: str) -> dict[str, Any]:
    """Run the lines over a disk with others mounted in it, and return what they print. Nothing is left of the mounts."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", "".join(lines), str(SOURCE), str(tmp_path)], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_clone_has_the_mounts_of_the_host_with_their_flags_and_writes_to_its_own_layers(tmp_path: Path) -> None:
    found = in_a_namespace(tmp_path, UNTIL_COVERED, COVER, """
with open(f"{root}{place}/home/x/files/data", "a") as file:
    file.write(" and of the clone")
with open(f"{root}{place}/home/x/files/new", "w") as file:
    file.write("new")
assert open(f"{place}/home/x/files/data").read() == "of the disk" and os.listdir(f"{place}/home/x/files") == ["data"]
assert os.stat(f"{root}{place}/name").st_ino == os.stat("/etc/passwd").st_ino
""", TELL)  # fmt: skip
    assert found["forms"] == {"/": "overlay", "": "overlay", "/home/x/files": "overlay", "/name": "bind", "/seen": "bind"}
    assert not found["failed"] and found["written"] == [["~", "/home/x/files/data"], ["+", "/home/x/files/new"]]
    options = found["options"]
    assert {"ro", "nosuid", "noexec", "nodev"} <= set(options["/seen"]) and {"ro", "nodev"} <= set(options["/name"])
    assert {"rw", "nosuid", "nodev"} <= set(options["/home/x/files"]) and not {"nosuid", "noexec"} & set(options[""])


@pytest.mark.parametrize("climb", [40, 0], ids=["out of the clone", "inside the clone"])
def test_link_that_a_user_puts_on_the_way_to_a_mount_leads_the_clone_nowhere(tmp_path: Path, climb: int) -> None:
    """40 times `..` is above the root of the host, whether from the mount point or from its place in the clone."""
    where = "../" * climb + f"{str(tmp_path).strip('/')}/home/" if climb else ""
    found = in_a_namespace(tmp_path, UNTIL_COVERED, f"""
subprocess.run(["sh", "-c", "mv x away; mkdir -p evil/files; echo mine >evil/files/program; ln -s {where}evil x"],
               cwd=f"{{place}}/home", check=True, **USER)
assert os.path.samefile(f"{{place}}/home/x/files", f"{{place}}/home/evil/files")
""", COVER, """
assert os.listdir(f"{place}/home/evil/files") == ["program"], os.listdir(f"{place}/home/evil/files")
assert not os.path.lexists(f"{root}{place}/home/away/files/data")
""", TELL)  # fmt: skip
    place = str(tmp_path)
    assert found["failed"] == ["/home/x/files"], f"the clone goes without it: {found['outside']}"
    assert sorted(found["outside"]) == ["/", place, f"{place}/home/away/files", f"{place}/name", f"{place}/seen"]


def test_a_folder_of_a_user_does_not_take_the_place_of_a_mount(tmp_path: Path) -> None:
    found = in_a_namespace(tmp_path, UNTIL_COVERED, """
subprocess.run(["sh", "-c", "mv x away; mkdir -p x/files; echo mine >x/files/data"], cwd=f"{place}/home", check=True, **USER)
""", COVER, TELL)  # fmt: skip
    assert found["failed"] == ["/home/x/files"]


def test_resolver_is_written_in_the_clone_whatever_a_link_there_says(tmp_path: Path) -> None:
    found = in_a_namespace(tmp_path, UNTIL_COVERED, COVER, """
import dataclasses
folder("evil", 65534)
os.remove(f"{root}/etc/resolv.conf")
os.symlink(f"{place}/evil/target", f"{root}/etc/resolv.conf")
real, os.path.realpath = os.path.realpath, lambda path: path
try:
    tree._resolver(dataclasses.replace(spec, resolver="nameserver 192.0.2.1", loopback_resolver="127.0.0.53"), root)
except OSError as error:
    refused = error.errno
print(json.dumps({"refused": refused, "evil": os.listdir(f"{place}/evil")}))
""")  # fmt: skip
    assert found == {"refused": 40, "evil": []}

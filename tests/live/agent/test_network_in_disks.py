"""Network configuration in real disks: ext4 through debugfs, XFS and Btrfs through the helper, honest images and hostile ones."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.live.agent import images_with_networks as trees
from tests.live.agent import mounted_images as images

from nqrust.agent.disks import disks
from nqrust.agent.disks import writers as disk_writers
from nqrust.agent.disks.netconf import choose
from nqrust.agent.errors import Refused
from nqrust.contract.vms import GuestUser, NetworkConfig
from nqrust.host.local import LocalHost
from nqrust.host.port import command
from nqrust.host.secret import Secret

from .conftest import Bench

HOST = LocalHost()
MAC = "02:4e:51:00:00:0a"
IDENTITY = disks.Identity("a1", "web1", "http://10.0.0.1:19091", Secret("t"), mac=MAC)
Written = Callable[..., tuple[str, Path]]


@pytest.fixture(params=["ext4", *images.KINDS])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    """Write the identity into a disk made of a tree; what was told, and what is in the disk then."""
    kind = str(request.param)
    if reason := images.why_not(kind) if kind != "ext4" else "" if HOST.which("mke2fs") else "e2fsprogs is not installed":
        pytest.skip(reason)

    def write(
        prepare: trees.Tree | Callable[[Path], None], identity: disks.Identity = IDENTITY, times: int = 1
    ) -> tuple[str, Path]:
        tree = tmp_path / "tree"
        if callable(prepare):
            prepare(trees.make(tree, {}))
        else:
            trees.make(tree, prepare)
        if kind == "ext4":
            disk = tmp_path / "disk"
            HOST.run(command("mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(disk), "64M"))
            HOST.set_mode(str(disk), mode=0o600, owner="1900000000", group="1900000000")
            told = [disks.EXT4.again(HOST, str(disk), identity) for _ in range(times)][-1]
            assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "tree"]
            assert HOST.run(command("e2fsck", "-f", "-n", str(disk), ok=(0, 1, 4))).code == 0
            (tmp_path / "found").mkdir()
            HOST.run(command("debugfs", "-R", f"rdump / {tmp_path}/found", str(disk)))
            return told, tmp_path / "found"
        helper = images.install(tmp_path / "installed")
        disk = helper.disk(images.make(kind, tmp_path / "image", tree))
        writer = disk_writers.writer(kind, str(helper.path))
        told = [writer.again(HOST, str(disk), identity) for _ in range(times)][-1]
        assert images.clean(kind, disk) and not images.attached(disk)
        return told, images.contents(kind, disk, tmp_path / "found")

    return write


@pytest.mark.parametrize(
    "tree",
    [
        trees.CLOUD_INIT,
        trees.NETPLAN,
        trees.NETWORK_MANAGER,
        trees.SYSTEMD,
        trees.IFUPDOWN,
        trees.ALPINE,
        trees.IFCFG,
        trees.TINY,
    ],
    ids=["cloud-init", "netplan", "network-manager", "networkd", "ifupdown", "alpine", "ifcfg", "tiny"],
)
def test_the_disk_holds_what_was_planned_and_no_more(written: Written, tree: trees.Tree) -> None:
    nic = IDENTITY.nic
    assert nic is not None
    plan = choose.decide(trees.image(tree), nic)
    told, found = written(tree, times=2)
    assert told == plan.told
    for path, (mode, text) in plan.files.items():
        place = found / path[1:]
        assert place.read_text() == text and stat.S_IMODE(place.stat().st_mode) == mode, path
        if HOST.euid() == 0:  # nobody else can copy owners out of a disk
            assert (place.stat().st_uid, place.stat().st_gid) == (0, 0)
    have = {"/" + str(place.relative_to(found)) for place in found.rglob("*") if place.is_file() and not place.is_symlink()}
    image = {path for path, text in tree.items() if text is not None and not text.startswith("-> ")}
    assert have == image | set(plan.files) | set(IDENTITY.files()) and (found / "etc/hostname").read_text() == "web1\n"
    for path in image - set(plan.files) - set(IDENTITY.files()):
        assert (found / path[1:]).read_text() == tree[path], "the image's own files stay"


def test_an_image_that_is_left_alone(written: Written) -> None:
    told, found = written(trees.NETPLAN, replace(IDENTITY, mac=""))
    assert told == "" and [place.name for place in (found / "etc/netplan").iterdir()] == ["50-own.yaml"]


def folder_leads_out(tree: Path) -> None:
    trees.make(tree, {**trees.SYSTEMD, "/usr/sbin/netplan": "x"})
    (tree / "etc/netplan").symlink_to(tree.parent / "victim")


def folder_is_a_file(tree: Path) -> None:
    trees.make(tree, {**trees.SYSTEMD, "/usr/sbin/netplan": "x", "/etc/netplan": "x"})


def folder_turns_in_circles(tree: Path) -> None:
    trees.make(tree, {**trees.IFUPDOWN, **trees.SYSTEMD})
    (tree / "etc/systemd/network").symlink_to("network")
    (tree / "etc/network/interfaces").unlink()
    (tree / "etc/network/interfaces").symlink_to("/etc/network/interfaces")


def interfaces_without_an_end(tree: Path) -> None:
    trees.make(tree, trees.IFUPDOWN)
    with open(tree / "etc/network/interfaces", "r+b") as file:
        file.truncate(200 << 20)


def a_folder_of_thousands(tree: Path) -> None:
    trees.make(tree, trees.IFUPDOWN)
    for number in range(5000):
        (tree / f"etc/network/interfaces.d/{number}").touch()


def names_that_are_commands(tree: Path) -> None:
    trees.make(tree, trees.IFUPDOWN)
    (tree / "etc/network/interfaces.d/lan\nwrite hosts hosts").write_text("auto eth0\n")


def a_device_in_place_of_a_file(tree: Path) -> None:
    trees.make(tree, trees.IFUPDOWN)
    (tree / "etc/network/interfaces").unlink()
    subprocess.run(["mknod", str(tree / "etc/network/interfaces"), "c", "1", "5"], check=True)  # /dev/zero


@pytest.mark.parametrize(
    "prepare",
    [
        folder_leads_out,
        folder_is_a_file,
        folder_turns_in_circles,
        interfaces_without_an_end,
        a_folder_of_thousands,
        names_that_are_commands,
        a_device_in_place_of_a_file,
    ],
)
def test_an_odd_image_keeps_its_own_network_and_becomes_a_vm(written: Written, prepare: Callable[[Path], None]) -> None:
    if HOST.euid() != 0:
        pytest.skip("makes device nodes")
    told, found = written(prepare)
    assert told.startswith("left to the image: "), told
    assert (found / "etc/hostname").read_text() == "web1\n"
    assert not list(found.rglob("*nqrust*"))


def test_disks_from_before_are_not_written_again() -> None:
    user = GuestUser(name="ana")
    old = disks.Identity("a1", "web1", "http://10.0.0.1:19091", Secret("t"), ("ssh-ed25519 AAAA me@laptop",), (user,))
    plain = ["a1", "web1", "http://10.0.0.1:19091", "t", "ssh-ed25519 AAAA me@laptop", user.model_dump_json()]
    assert old.digest == hashlib.sha256(json.dumps(plain).encode()).hexdigest()
    assert len({old.digest, replace(old, mac=MAC).digest, replace(old, mac="02:4e:51:00:00:0b").digest}) == 3


@pytest.mark.parametrize("mac", ["02:4e:51:00:00:0A", "02:4e:51:00:00", '02:4e:51:00:00:0a"', "\n02:4e:51:00:00:0a", "eth0"])
def test_what_is_no_mac_is_refused(mac: str) -> None:
    with pytest.raises(Refused):
        replace(IDENTITY, mac=mac)


def test_the_agent_writes_it_once_and_tells(bench: Bench) -> None:
    asked = {"network_config": NetworkConfig.dhcp, "run": False}
    told = "left to the image: it has no network configurator that nqr knows"
    assert bench.service.put(bench.spec(**asked)).network_written == told
    disk = bench.vm_dir() / "disk.ext4"
    before = disk.stat().st_mtime_ns
    again = bench.service.put(bench.spec(**asked, generation=2))
    assert (again.network_written, disk.stat().st_mtime_ns) == (told, before)


def test_a_vm_of_an_older_manager_is_left_alone(bench: Bench) -> None:
    """It says nothing of networks; its record neither."""
    status = bench.service.put(bench.spec(run=False))
    assert status.network_written == ""
    record = json.loads((bench.vm_dir() / "vm.json").read_text())
    del record["network_config"], record["network_written"]
    (bench.vm_dir() / "vm.json").write_text(json.dumps(record))
    before = (bench.vm_dir() / "disk.ext4").stat().st_mtime_ns
    assert bench.service.put(bench.spec(run=False)).network_written == ""
    assert (bench.vm_dir() / "disk.ext4").stat().st_mtime_ns == before

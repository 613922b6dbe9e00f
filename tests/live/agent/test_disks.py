"""Disks made for real from small ext4 images: what is in them is read back with debugfs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nqrust.agent.disks import disks
from nqrust.agent.errors import Failed, Refused
from nqrust.host.local import LocalHost
from nqrust.host.port import command
from nqrust.host.secret import Secret

HOST = LocalHost()
USER = 1_900_000_000
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@laptop"
IDENTITY = disks.Identity("a1", "web1", "http://10.0.0.1:19091", Secret("the-token"), (KEY,))


def cat(disk: Path, path: str) -> str:
    return HOST.run(command("debugfs", "-R", f"cat {path}", str(disk))).stdout


def stat(disk: Path, path: str) -> str:
    return HOST.run(command("debugfs", "-R", f"stat {path}", str(disk))).stdout


def clean(disk: Path) -> bool:
    return HOST.run(command("e2fsck", "-f", "-n", str(disk), ok=(0, 1, 4))).code == 0


def test_a_copy_becomes_the_vms_own(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    image, disk = make_ext4(tmp_path / "image"), tmp_path / "disk"
    before = image.read_bytes()
    disks.create(HOST, image=str(image), disk=str(disk), user=USER, size_mib=24, identity=IDENTITY)
    assert cat(disk, "/etc/hostname") == "web1\n"
    assert cat(disk, "/etc/guest-agent.conf") == "VM_ID=a1\nMANAGER_URL=http://10.0.0.1:19091\nTOKEN=the-token\n"
    assert cat(disk, "/root/.ssh/authorized_keys") == KEY + "\n"
    assert "Mode:  0600" in stat(disk, "/etc/guest-agent.conf")
    assert "Mode:  0644" in stat(disk, "/etc/hostname")
    assert "Mode:  0700" in stat(disk, "/root/.ssh")
    assert "User:     0   Group:     0" in stat(disk, "/etc/guest-agent.conf")
    assert disk.stat().st_size == 24 << 20
    assert clean(disk)
    assert image.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "image", "tree"]


def test_writing_again_replaces(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    image, disk = make_ext4(tmp_path / "image"), tmp_path / "disk"
    disks.create(HOST, image=str(image), disk=str(disk), user=USER, size_mib=8, identity=IDENTITY)
    other = disks.Identity("a1", "web1", "http://10.0.0.1:19091", Secret("t2"))
    disks.inject(HOST, str(disk), other)
    assert cat(disk, "/etc/guest-agent.conf").endswith("TOKEN=t2\n")
    assert clean(disk)


def test_links_in_a_hostile_image_reach_nothing_of_the_host(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "hostname").write_text("mine\n")

    def hostile(tree: Path) -> None:
        (tree / "etc" / "hostname").unlink()
        (tree / "etc").rmdir()
        (tree / "etc").symlink_to(victim)

    image = make_ext4(tmp_path / "image", prepare=hostile)
    with pytest.raises(Failed) as failed:
        disks.create(HOST, image=str(image), disk=str(tmp_path / "disk"), user=USER, size_mib=8, identity=IDENTITY)
    assert failed.value.code == "NQR-IMG-103"
    assert (victim / "hostname").read_text() == "mine\n"
    assert [p.name for p in victim.iterdir()] == ["hostname"]
    assert not (tmp_path / "disk").exists()


def test_a_link_at_a_files_place_is_replaced_not_followed(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    def link(tree: Path) -> None:
        (tree / "etc" / "hostname").unlink()
        (tree / "etc" / "hostname").symlink_to("/etc/shadow")
        (tree / "etc" / "shadow").write_text("root:x\n")

    image, disk = make_ext4(tmp_path / "image", prepare=link), tmp_path / "disk"
    disks.create(HOST, image=str(image), disk=str(disk), user=USER, size_mib=8, identity=IDENTITY)
    assert cat(disk, "/etc/hostname") == "web1\n"
    assert cat(disk, "/etc/shadow") == "root:x\n"


def test_what_is_no_file_system_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\0" * (8 << 20))
    with pytest.raises(Failed) as failed:
        disks.create(HOST, image=str(image), disk=str(tmp_path / "disk"), user=USER, size_mib=8, identity=IDENTITY)
    assert failed.value.code == "NQR-IMG-102"
    assert [p.name for p in tmp_path.iterdir()] == ["image"]


def test_a_full_file_system_is_told_not_half_written(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    def fill(tree: Path) -> None:
        (tree / "etc" / "hostname").unlink()
        (tree / "ballast").write_bytes(b"x" * (1 << 20))

    image = make_ext4(tmp_path / "image", mib=4, prepare=fill)
    HOST.run(command("dd", "if=/dev/urandom", f"of={tmp_path}/more", "bs=64k", "count=64"))
    script = tmp_path / "fill"
    script.write_text("".join(f"write {tmp_path}/more more{n}\n" for n in range(12)))
    HOST.run(command("debugfs", "-w", "-f", str(script), str(image)))
    with pytest.raises(Failed) as failed:
        disks.create(HOST, image=str(image), disk=str(tmp_path / "disk"), user=USER, size_mib=4, identity=IDENTITY)
    assert failed.value.code in ("NQR-IMG-103", "NQR-IMG-102")
    assert not (tmp_path / "disk").exists()


def test_a_disk_smaller_than_its_image_is_refused(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    with pytest.raises(Refused) as refused:
        disks.create(
            HOST,
            image=str(make_ext4(tmp_path / "image", mib=24)),
            disk=str(tmp_path / "disk"),
            user=USER,
            size_mib=16,
            identity=IDENTITY,
        )
    assert refused.value.code == "NQR-VMM-108"


@pytest.mark.parametrize(
    ("name", "token", "keys"),
    [
        ("web1\nquit", "t", ()),
        ("Web", "t", ()),
        ("../x", "t", ()),
        ("web1", "a\nVM_ID=b", ()),
        ("web1", "", ()),
        ("web1", "t", ("ssh-ed25519 AAAA\nssh-rsa BBBBBBBBBBBB",)),
        ("web1", "t", ("short",)),
    ],
)
def test_what_would_break_out_of_a_line_is_refused(name: str, token: str, keys: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        disks.Identity("a1", name, "http://10.0.0.1:19091", Secret(token), keys)

"""The host's file systems in the clone, and how they are mounted."""

from __future__ import annotations

from nqrust.host.mounts import parse_mountinfo
from nqrust.installer.rehearsal.mounts import can_take_writes, clone_mounts

SERVER = """\
25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 25 0:21 / /proc rw shared:2 - proc proc rw
23 25 0:22 / /sys rw shared:3 - sysfs sysfs rw
24 25 0:23 / /run rw shared:4 - tmpfs tmpfs rw
30 24 0:40 / /run/user/1000 rw - tmpfs tmpfs rw
26 25 0:24 / /dev rw - devtmpfs udev rw
31 25 8:2 / /srv rw,relatime - xfs /dev/sda2 rw
32 25 8:3 / /boot/efi rw - vfat /dev/sda3 rw
33 25 0:50 / /mnt/share rw - nfs4 filer:/share rw
34 25 0:51 / /var/lib/docker/overlay2/ab/merged rw - overlay overlay rw,lowerdir=x
35 25 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
36 25 8:4 / /etc/hosts rw - ext4 /dev/sda4 rw
37 25 8:5 / /mnt/cd ro - ext4 /dev/sdb1 ro
"""


def forms(text: str, files: frozenset[str] = frozenset()) -> dict[str, str]:
    return {one.path: one.form for one in clone_mounts(parse_mountinfo(text), files)[0]}


def test_each_writable_file_system_gets_a_layer_and_the_rest_is_only_seen() -> None:
    assert forms(SERVER, frozenset({"/etc/hosts"})) == {
        "/": "overlay", "/srv": "overlay", "/boot/efi": "bind", "/mnt/share": "bind", "/snap/core/1": "bind",
        "/etc/hosts": "bind", "/mnt/cd": "bind",
    }  # fmt: skip


def test_a_container_root_is_left_out_and_named() -> None:
    assert clone_mounts(parse_mountinfo(SERVER))[1] == ("/var/lib/docker/overlay2/ab/merged",)


def test_a_root_that_is_an_overlay_itself_is_taken() -> None:
    assert forms("25 1 0:9 / / rw - overlay overlay rw\n") == {"/": "overlay"}


def test_parents_come_before_what_is_mounted_in_them() -> None:
    text = "25 1 8:1 / / rw - ext4 a rw\n27 26 8:3 / /a/b rw - ext4 c rw\n26 25 8:2 / /c rw - ext4 b rw\n"
    assert [one.path for one in clone_mounts(parse_mountinfo(text))[0]] == ["/", "/a/b", "/c"]


def test_hidden_mount_is_not_mounted() -> None:
    text = "25 1 8:1 / / rw - ext4 a rw\n26 25 8:2 / /a/b rw - ext4 b rw\n27 25 8:3 / /a rw - xfs c rw\n"
    assert forms(text) == {"/": "overlay", "/a": "overlay"}


def test_layers_need_a_file_system_with_whiteouts() -> None:
    assert can_take_writes("ext4") and can_take_writes("btrfs")
    assert not can_take_writes("overlay") and not can_take_writes("vfat")

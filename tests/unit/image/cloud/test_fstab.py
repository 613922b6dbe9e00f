"""fstab(5) of an image whose root file system became a disk of its own."""

from __future__ import annotations

from tests.live.image.cloud_disks import FSTAB

from nqrust.image.cloud import fstab

OWN = "tmpfs /tmp tmpfs defaults 0 0\n# UUID=1 /old ext4 defaults 0 0\n"


def test_root_is_the_disk_and_lost_partitions_become_comments() -> None:
    lines = fstab.rewritten(FSTAB + OWN).splitlines()
    assert "/dev/vda / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1" in lines
    lost = [line for line in lines if "/boot/efi" in line]
    assert len(lost) == 1 and lost[0].startswith("# Not in this VM's disk: PARTUUID=")
    assert lines[-2:] == OWN.splitlines()


def test_second_rewrite_changes_nothing() -> None:
    once = fstab.rewritten(FSTAB)
    assert fstab.rewritten(once) == once


def test_entry_without_a_device_is_not_lost() -> None:
    assert [fstab.is_lost(line) for line in ("LABEL=BOOT /boot ext4 defaults", "/swap none swap sw", "LABEL=r / ext4", "#LABEL=x /y", "")] == [
        True, False, False, False, False
    ]  # fmt: skip

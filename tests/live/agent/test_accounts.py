"""Accounts in real ext4 images: what the guest will find, and images that cannot have any."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nqrust.agent.disks import accounts, disks, tools
from nqrust.agent.errors import Failed, Refused
from nqrust.contract.vms import GuestUser
from nqrust.host.local import LocalHost
from nqrust.host.port import command
from nqrust.host.secret import Secret

HOST = LocalHost()
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@laptop"
HASH = "$6$salt$abcdefghijklmnopqrstuvwxyz"
ANA = GuestUser(name="ana", ssh_keys=[KEY], password_hash=HASH)
PASSWD = "root:x:0:0:root:/root:/bin/sh\nold:x:1000:1000::/srv/old:/bin/sh\n"
GROUP = "root:x:0:\nold:x:1000:\nstaff:x:1001:\n"
SHADOW = "root:*:19000:0:99999:7:::\nold:!:19000:0:99999:7:::\n"


def ask(disk: Path, what: str) -> str:
    return HOST.run(command("debugfs", "-R", what, str(disk))).stdout


def image(make_ext4: Callable[..., Path], path: Path, shadow: str | None = SHADOW) -> Path:
    def prepare(tree: Path) -> None:
        (tree / "etc" / "passwd").write_text(PASSWD)
        (tree / "etc" / "group").write_text(GROUP)
        if shadow is not None:
            (tree / "etc" / "shadow").write_text(shadow)
            (tree / "etc" / "shadow").chmod(0o640)

    return make_ext4(path, prepare=prepare)


def make(source: Path, disk: Path, *users: GuestUser) -> None:
    identity = disks.Identity("a1", "web1", "http://10.0.0.1:19091", Secret("t"), (), users)
    disks.create(HOST, image=str(source), disk=str(disk), user=1_900_000_000, size_mib=16, identity=identity)


def test_a_new_user_can_sign_in_with_key_and_password(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    disk = tmp_path / "disk"
    make(image(make_ext4, tmp_path / "image"), disk, ANA)
    assert ask(disk, "cat /etc/passwd") == PASSWD + "ana:x:1002:1002::/home/ana:/bin/sh\n"
    assert ask(disk, "cat /etc/group") == GROUP + "ana:x:1002:\n"
    assert ask(disk, "cat /etc/shadow") == SHADOW + f"ana:{HASH}:::::::\n"
    assert ask(disk, "cat /home/ana/.ssh/authorized_keys") == KEY + "\n"
    for path, mode in {"/home/ana": "0755", "/home/ana/.ssh": "0700", "/home/ana/.ssh/authorized_keys": "0600"}.items():
        told = ask(disk, f"stat {path}")
        assert f"Mode:  {mode}" in told
        assert "User:  1002   Group:  1002" in told
    assert "Mode:  0640" in ask(disk, "stat /etc/shadow"), "as the image had it"
    assert HOST.run(command("e2fsck", "-f", "-n", str(disk), ok=(0, 1, 4))).code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "image", "tree"]


def test_a_user_of_the_image_keeps_its_number_and_home(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    disk = tmp_path / "disk"
    make(image(make_ext4, tmp_path / "image"), disk, GuestUser(name="root", ssh_keys=[KEY], password_hash=HASH))
    assert ask(disk, "cat /etc/passwd") == PASSWD
    assert ask(disk, "cat /etc/shadow").startswith(f"root:{HASH}:19000:0:99999:7:::\n")
    assert ask(disk, "cat /root/.ssh/authorized_keys") == KEY + "\n"


def test_writing_again_changes_nothing(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    disk = tmp_path / "disk"
    make(image(make_ext4, tmp_path / "image"), disk, ANA)
    before = [ask(disk, f"cat /etc/{name}") for name in ("passwd", "group", "shadow")]
    accounts.inject(HOST, str(disk), [ANA])
    assert [ask(disk, f"cat /etc/{name}") for name in ("passwd", "group", "shadow")] == before
    assert HOST.run(command("e2fsck", "-f", "-n", str(disk), ok=(0, 1, 4))).code == 0


def test_without_shadow_the_password_stands_in_passwd(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    disk = tmp_path / "disk"
    make(image(make_ext4, tmp_path / "image", shadow=None), disk, ANA)
    assert f"ana:{HASH}:1002:1002:" in ask(disk, "cat /etc/passwd")


def test_an_image_without_accounts_is_refused_and_no_disk_is_made(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    with pytest.raises(Refused) as refused:
        make(make_ext4(tmp_path / "image"), tmp_path / "disk", ANA)
    assert refused.value.code == "NQR-IMG-105"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image", "tree"]


LONG = 300 << 20


LINES = "\ndebugfs: stat /etc/passwd\nInode: 1 Type: regular\nSize: 9\n"


def test_an_image_cannot_have_a_long_file_copied_out(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    def prepare(tree: Path) -> None:
        with open(tree / "etc" / "passwd", "wb") as file:
            file.truncate(LONG)
        (tree / "bin").mkdir(exist_ok=True)
        os.symlink(LINES, tree / "bin" / "bash")

    source = make_ext4(tmp_path / "image", prepare=prepare)
    with pytest.raises(Failed) as caught:
        make(source, tmp_path / "disk", ANA)
    assert caught.value.code == "NQR-IMG-103" and "lines like those of debugfs" in caught.value.what
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image", "tree"]


def test_a_program_that_reads_a_disk_writes_no_long_file(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    disk = image(make_ext4, tmp_path / "image")
    HOST.run(command("debugfs", "-w", "-R", f"sif /etc/passwd size {LONG}", str(disk)))
    HOST.run(command("truncate", "-s", str(LONG), str(disk)))
    os.chown(disk, 1_900_000_000, 1_900_000_000)
    tools.scratch(HOST, str(disk), str(tmp_path / "folder"))
    tools.run(HOST, str(disk), "debugfs", "-R", f"dump /etc/passwd {tmp_path}/folder/out", str(disk), grows=False)
    assert (tmp_path / "folder" / "out").stat().st_size <= 64 << 20


def test_numbers_that_are_none_are_no_accounts() -> None:
    """`int` refuses the first, and takes the second for 3."""
    passwd = "root:x:0:0::/root:/bin/sh\nodd:x:\u00b2:\u0663::/:/bin/sh\nlong:x:" + "9" * 5000 + ":0::/:/bin/sh\n"
    assert accounts.with_user(passwd, "g:x:\u00b2:\n", None, GuestUser(name="odd"), "/bin/sh")[3].uid == 1000


def test_a_home_of_strange_characters_never_reaches_the_script() -> None:
    hostile = "ana:x:1000:1000::/x\tquit; rm /etc:/bin/sh\n"
    *_, account = accounts.with_user(hostile, "", None, ANA, "/bin/sh")
    assert account.home == "/home/ana"

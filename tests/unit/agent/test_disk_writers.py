"""How an identity gets into a disk, the helper's input, and the handling of its answers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent.disks import disks
from nqrust.agent.disks import writers as disk_writers
from nqrust.agent.disks.diskwrite import mounting, writer
from nqrust.agent.disks.diskwrite.document import Request
from nqrust.agent.errors import AgentError
from nqrust.contract.agent import ImageRef
from nqrust.contract.images import Blob
from nqrust.contract.names import VM_USERS
from nqrust.contract.vms import GuestUser
from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError
from nqrust.host.port import Command, Completed
from nqrust.host.secret import Secret

HELPER = "/opt/nqrust-microvm/libexec/nqrust-helper"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@laptop"
HASH = "$6$abcdefgh$abcdefghijklmnop"
IDENTITY = disks.Identity(
    "a1", "web1", "http://10.0.0.1:19091", Secret("the-token"), (KEY,), (GuestUser(name="ana", password_hash=HASH),)
)
DISK = "/srv/fc/vms/a1/disk.ext4"


def write(host: FakeHost, disk: str = DISK, identity: disks.Identity = IDENTITY) -> None:
    disk_writers.writer("xfs", HELPER).again(host, disk, identity)


def answering(answer: object) -> FakeHost:
    host = FakeHost()
    host.on(HELPER, "disk-write", answer=answer)
    return host


@pytest.mark.parametrize("kind", ["ext2", "squashfs", "vfat", "", "xfs "])
def test_other_types_are_refused(kind: str) -> None:
    with pytest.raises(AgentError) as refused:
        disk_writers.writer(kind, HELPER)
    assert (refused.value.code, refused.value.status) == ("NQR-IMG-104", 422)


def test_ext4_needs_no_helper() -> None:
    assert disk_writers.writer("ext4", HELPER) is disks.EXT4


def test_the_helper_is_told_all_on_standard_input() -> None:
    host = answering('{"code":""}\n')
    write(host, f"{DISK}.new")
    (ran,) = host.commands
    assert ran.argv == (HELPER, "disk-write") and isinstance(ran.input, Secret)
    told = Request.model_validate_json(ran.input.reveal())
    assert (told.vm_id, told.staged, told.type) == ("a1", True, "xfs")
    assert {file.path: (file.mode, file.content) for file in told.files} == {
        path: (mode, content.reveal()) for path, (mode, content) in IDENTITY.files().items()
    }
    assert [(user.name, user.password_hash) for user in told.users] == [("ana", HASH)]
    assert "the-token" not in repr(ran) and HASH not in repr(ran)


def test_the_helper_writes_only_what_changed() -> None:
    host = answering('{"code":""}\n')
    before = replace(IDENTITY, mac="02:4e:51:00:00:0a")
    now = replace(before, hostname="web2").beside(before.digest, before.digests)
    write(host, identity=now)
    told = Request.model_validate_json(host.commands[0].input.reveal())  # type: ignore[union-attr]
    assert [file.path for file in told.files] == ["/etc/hostname"] and told.users == []
    assert told.network is not None and told.network.passwords, "of an account that stays as it is"


def test_the_helpers_error_is_the_agents() -> None:
    told = {"code": "NQR-IMG-108", "what": "The disk is in use.", "cure": "Stop the VM.", "status": 409}
    with pytest.raises(AgentError) as failed:
        write(answering(Completed((HELPER,), 1, json.dumps(told), "")))
    assert (failed.value.code, failed.value.what, failed.value.status) == ("NQR-IMG-108", "The disk is in use.", 409)


def test_a_damaged_disk_of_a_vm_is_not_called_its_images() -> None:
    """Nobody builds the image again for it."""
    what = "The image's file system cannot be used (xfs_repair exited with 1: bad magic number)."
    told = json.dumps({"code": "NQR-IMG-102", "what": what, "cure": "Build or add the image again.", "status": 500})
    with pytest.raises(AgentError) as failed:
        write(answering(Completed((HELPER,), 1, told, "")))
    assert (failed.value.code, failed.value.what) == (
        "NQR-VMM-141",
        "The file system of the VM's disk is damaged (xfs_repair exited with 1: bad magic number).",
    )
    with pytest.raises(AgentError) as failed:
        write(answering(Completed((HELPER,), 1, told, "")), f"{DISK}.new")
    assert failed.value.what == what


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (CommandFailed((HELPER,), 2, "nqrust-helper: the request is wrong in: vm_id"), "NQR-IMG-109"),
        (CommandTimedOut((HELPER,), 1600), "NQR-IMG-109"),
        (Completed((HELPER,), 1, "", "unshare: unshare failed: Operation not permitted"), "NQR-IMG-109"),
        ("no JSON", "NQR-IMG-109"),
    ],
)
def test_a_helper_that_does_not_answer(answer: object, code: str) -> None:
    with pytest.raises(AgentError) as failed:
        write(answering(answer))
    assert failed.value.code == code and failed.value.cure


def test_a_host_without_the_helper() -> None:
    host = FakeHost()
    host.uninstall(HELPER)
    with pytest.raises(AgentError) as failed:
        write(host)
    assert (failed.value.code, failed.value.status) == ("NQR-IMG-107", 503)


def test_what_cannot_be_a_request_is_not_sent() -> None:
    wrong = disks.Identity("../a1", "web1", "http://10.0.0.1:19091", Secret("hunter2"))
    with pytest.raises(AgentError) as refused:
        write(FakeHost(), identity=wrong)
    assert refused.value.code == "NQR-API-703" and "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("xfs", "xfs_repair"),
        ("xfs", "xfs_growfs"),
        ("btrfs", "btrfs"),
        ("xfs", "prlimit"),
        ("xfs", "setpriv"),
        ("xfs", "unshare"),
    ],
)
def test_missing_programs_are_told_before_anything_is_touched(kind: str, missing: str) -> None:
    host = FakeHost()
    for program in ("prlimit", "setpriv", "unshare", "xfs_repair", "xfs_growfs", "btrfs"):
        host.install(program)
    host.uninstall(missing)
    with pytest.raises(AgentError) as failed:
        writer.write(host, "/none", Request.model_validate({"vm_id": "a1", "type": kind}), "/none")
    assert failed.value.code == "NQR-IMG-107" and missing in failed.value.what and "Install" in failed.value.cure


@pytest.mark.parametrize(
    ("number", "code"), [(19, "NQR-IMG-107"), (17, "NQR-IMG-107"), (1, "NQR-IMG-107"), (117, "NQR-IMG-102"), (22, "NQR-IMG-102")]
)
def test_a_kernel_that_refuses_to_mount(number: int, code: str) -> None:
    refused = mounting.refused("btrfs", OSError(number, "why"))
    assert refused.code == code and refused.cure


def check(answer: object) -> list[str]:
    """Run the checker. Return its actions: `check` and `replay`."""
    host, done = FakeHost(), list[str]()

    def told(host: FakeHost, cmd: Command) -> object:
        done.append("check")
        found = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(found, HostError):
            raise found
        return found

    host.on("unshare", prefix=True, answer=told)
    writer.check(host, "xfs", "/dev/loop0", VM_USERS[3], replay=lambda: done.append("replay"))
    limits = {
        "--pid",
        "--kill-child",
        "--cpu=600",
        f"--as={4 << 30}",
        f"--reuid={VM_USERS[3]}",
        "--no-new-privs",
        "--bounding-set=-all",
    }
    assert all(limits <= set(command.argv) for command in host.commands)
    return done


DIRTY = CommandFailed(("prlimit",), 1, "ALERT: The filesystem has valuable metadata changes in a log which is being ignored")


def test_the_checker_has_limits_and_a_log_is_replayed_once() -> None:
    assert check("") == ["check"]
    assert check([DIRTY, ""]) == ["check", "replay", "check"]
    for bad in ([DIRTY, DIRTY], CommandFailed(("prlimit",), 1, "bad magic number"), CommandTimedOut(("prlimit",), 600)):
        with pytest.raises(AgentError) as failed:
            check(bad)
        assert failed.value.code == "NQR-IMG-102"


@pytest.mark.parametrize(
    ("kind", "cmdline", "whole"),
    [
        ("ext4", "quiet", "quiet"),
        ("xfs", "", "rootfstype=xfs"),
        ("btrfs", "quiet", "quiet rootfstype=btrfs"),
        ("btrfs", "rootfstype=btrfs quiet", "rootfstype=btrfs quiet"),
    ],
)
def test_the_kernel_is_told_the_type(kind: str, cmdline: str, whole: str) -> None:
    part = Blob(file="x", size=0, sha256="0" * 64)
    image = ImageRef(name="tiny", rootfs=part, rootfs_type=kind, kernel=part, cmdline=cmdline)
    assert disk_writers.command_line(image) == whole

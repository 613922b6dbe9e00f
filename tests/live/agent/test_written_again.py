"""What a start writes into a disk that exists: the parts that changed, and nothing over what the guest made of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nqrust.agent.disks import disks
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.vms import GuestUser, NetworkConfig
from nqrust.host.port import command

from .conftest import VM, Bench, blob
from .journals import HOST, debugfs

CONF, KEYS = "/etc/guest-agent.conf", "/root/.ssh/authorized_keys"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@laptop"
HASH, NEW_HASH = "$6$salt$abcdefghijklmnopqrstuvwxyz", "$6$salt$of-the-guest"
ANA = GuestUser(name="ana", ssh_keys=[KEY], password_hash=HASH)
WISHES = {"ssh_keys": [KEY], "users": [ANA], "run": False}
OWN = {"/etc/hostname": "own-name\n", KEYS: "", "/home/ana/.ssh/authorized_keys": "", "/etc/shadow": f"ana:{NEW_HASH}:::::::\n"}
"""What the guest's administrator made of them: a key that leaked is gone, and the first password."""


def cat(bench: Bench, path: str) -> str:
    return HOST.run(command("debugfs", "-R", f"cat {path}", str(bench.vm_dir() / "disk.ext4"))).stdout


def conf(url: str, token: str) -> str:
    return f"VM_ID={VM}\nMANAGER_URL={url}\nTOKEN={token}\n"


@pytest.fixture
def lived_in(bench: Bench, make_ext4: Callable[..., Path], tmp_path: Path) -> Bench:
    """A VM whose guest changed files that the agent wrote."""

    def prepare(tree: Path) -> None:
        (tree / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (tree / "etc" / "shadow").write_text("")

    image = make_ext4(bench.root / "images" / "tiny" / "rootfs.ext4", prepare=prepare)
    bench.image = bench.image.model_copy(update={"rootfs": blob(image)})
    bench.service.put(bench.spec(**WISHES))
    assert cat(bench, KEYS) == KEY + "\n" and HASH in cat(bench, "/etc/shadow")
    for number, (path, text) in enumerate(OWN.items()):
        (tmp_path / f"own{number}").write_text(text)
        parent, _, name = path.rpartition("/")
        debugfs(bench.vm_dir() / "disk.ext4", f"cd {parent}", f"rm {name}", f"write {tmp_path}/own{number} {name}")
    return bench


def own(bench: Bench) -> dict[str, str]:
    return {path: cat(bench, path) for path in OWN}


def moved(bench: Bench, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(bench.service, "relay_url", lambda: url)


def test_another_address_of_the_host_changes_nothing_else(lived_in: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    moved(lived_in, monkeypatch, "http://192.0.2.9:19091")
    lived_in.service.put(lived_in.spec(**WISHES))
    assert cat(lived_in, CONF) == conf("http://192.0.2.9:19091", "token-1")
    assert own(lived_in) == OWN


def test_lines_of_others_for_the_guest_agent_go_when_its_file_is_replaced(lived_in: Bench, tmp_path: Path) -> None:
    theirs = conf(lived_in.service.relay_url(), "token-1") + "EXEC=off\n"
    (tmp_path / "conf").write_text(theirs)
    debugfs(lived_in.vm_dir() / "disk.ext4", "cd /etc", "rm guest-agent.conf", f"write {tmp_path}/conf guest-agent.conf")
    lived_in.service.put(lived_in.spec(**WISHES))
    assert cat(lived_in, CONF) == theirs
    lived_in.service.put(lived_in.spec(**WISHES, guest_token="token-2"))
    assert cat(lived_in, CONF) == conf(lived_in.service.relay_url(), "token-2")


def test_what_changed_is_written(lived_in: Bench) -> None:
    bob = GuestUser(name="bob", ssh_keys=[KEY])
    lived_in.service.put(lived_in.spec(**{**WISHES, "name": "web2", "users": [ANA, bob]}))
    assert own(lived_in) == {**OWN, "/etc/hostname": "web2\n", "/etc/shadow": OWN["/etc/shadow"] + "bob:*:::::::\n"}
    assert cat(lived_in, "/home/bob/.ssh/authorized_keys") == KEY + "\n"


def test_a_record_of_an_earlier_version_brings_no_key_and_no_password_back(lived_in: Bench) -> None:
    path = lived_in.vm_dir() / "vm.json"
    record = json.loads(path.read_text())
    before = record["injected"]
    del record["written"], record["relay_url"]
    path.write_text(json.dumps(record))
    disk = (lived_in.vm_dir() / "disk.ext4").read_bytes()
    lived_in.service.put(lived_in.spec(**WISHES))
    assert (lived_in.vm_dir() / "disk.ext4").read_bytes() == disk
    path.write_text(json.dumps(record))
    lived_in.service.put(lived_in.spec(**WISHES, guest_token="token-2"))
    assert own(lived_in) == {**OWN, "/etc/hostname": "web1\n"}
    assert "TOKEN=token-2" in cat(lived_in, CONF)
    now = json.loads(path.read_text())
    assert now["injected"] != before and set(now["written"]) == {CONF, KEYS, "/etc/hostname", "user ana"}


def test_a_bridge_without_an_address_leaves_the_former_one_in_the_disk(lived_in: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    moved(lived_in, monkeypatch, "")
    disk = (lived_in.vm_dir() / "disk.ext4").read_bytes()
    lived_in.service.put(lived_in.spec(**WISHES))
    assert (lived_in.vm_dir() / "disk.ext4").read_bytes() == disk
    lived_in.service.put(lived_in.spec(**WISHES, guest_token="token-2"))
    assert cat(lived_in, CONF) == conf("http://10.0.0.1:19091", "token-2")


def test_a_bridge_without_an_address_leaves_the_one_that_an_earlier_version_wrote(
    lived_in: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lived_in.vm_dir() / "vm.json"
    record = json.loads(path.read_text())
    del record["written"], record["relay_url"]
    path.write_text(json.dumps(record))
    moved(lived_in, monkeypatch, "")
    for _ in range(2):
        lived_in.service.put(lived_in.spec(**WISHES))
        assert cat(lived_in, CONF) == conf("http://10.0.0.1:19091", "token-1")
    moved(lived_in, monkeypatch, "http://192.0.2.9:19091")
    lived_in.service.put(lived_in.spec(**WISHES))
    assert cat(lived_in, CONF) == conf("http://192.0.2.9:19091", "token-1")
    path.write_text(json.dumps(record))
    moved(lived_in, monkeypatch, "")
    lived_in.service.put(lived_in.spec(**WISHES, guest_token="token-2"))
    assert cat(lived_in, CONF) == conf("", "token-2"), "the former one is nowhere but in the disk"


@pytest.mark.parametrize("token", ["token-1", "token-2"])
def test_a_write_of_an_earlier_version_that_was_cut_off_is_done_without_an_address(
    lived_in: Bench, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    path = lived_in.vm_dir() / "vm.json"
    record = json.loads(path.read_text())
    del record["written"], record["relay_url"]
    path.write_text(json.dumps({**record, "injected": ""}))
    debugfs(lived_in.vm_dir() / "disk.ext4", f"rm {CONF}")
    moved(lived_in, monkeypatch, "")
    lived_in.service.put(lived_in.spec(**WISHES, guest_token=token))
    assert cat(lived_in, CONF) == conf("", token)


def test_a_restored_disk_gets_what_changed_since_its_snapshot(lived_in: Bench) -> None:
    snapshots = Snapshots(lived_in.service)
    snapshots.create(VM, "before")
    lived_in.service.put(lived_in.spec(**WISHES, guest_token="token-2"))
    snapshots.restore(VM, "before")
    assert "TOKEN=token-1" in cat(lived_in, CONF)
    lived_in.service.put(lived_in.spec(**WISHES, guest_token="token-2"))
    assert "TOKEN=token-2" in cat(lived_in, CONF) and own(lived_in) == OWN


def test_a_network_that_did_not_change_is_not_written_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = {"network_config": NetworkConfig.dhcp, "run": False}
    told = bench.service.put(bench.spec(**wishes)).network_written
    assert told
    monkeypatch.setattr(disks.choose, "decide", None)  # nothing is to be decided
    assert bench.service.put(bench.spec(**wishes, guest_token="token-2")).network_written == told

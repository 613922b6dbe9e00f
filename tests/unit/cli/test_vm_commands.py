"""`nqr vm`, `nqr image` and `nqr host` against a manager that answers over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nqrust.cli.__main__ import run

VM = {
    "id": "v1", "name": "web1", "state": "running", "desired_state": "running", "host": "h1", "ip": "10.0.0.10",
    "mac": "06:4e:00:00:00:01", "boot_id": "b1", "observed_generation": 1, "image": "tiny", "vcpus": 1, "memory_mib": 256, "disk_mib": 32,
    "created_at": "2026-01-01T00:00:00Z", "tap": "tap0", "guest_up_at": "2026-01-01T00:00:09Z",
}  # fmt: skip


TEMPLATE = {"name": "small", "image": "tiny", "created_at": VM["created_at"], "updated_at": VM["created_at"]}
VOLUME = {"name": "db1-vdb-v1", "size_mib": 64, "host": "h1", "vm": None, "created_at": VM["created_at"]}


class Manager(ThreadingHTTPServer):
    """Record the requests. A VM's guest is up at the second query."""

    asked: list[tuple[str, str, Any]]
    looks = 0
    taken = False
    volumes: list[dict[str, Any]] | None = None  # of the VM when it was asked, and at the next look
    later: list[dict[str, Any]]
    error = ""
    url = ""


class Handler(BaseHTTPRequestHandler):
    server: Manager

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, body))
        status, shown = self.reply()
        data = json.dumps(shown).encode() if shown is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def reply(self) -> tuple[int, Any]:
        if self.headers.get("Authorization") != "Bearer good":
            return 401, {
                "title": "no",
                "status": 401,
                "detail": "No valid credentials.",
                "code": "NQR-API-101",
            }
        if self.path.startswith("/v1/hosts/join-tokens"):
            return 201, {"token": "nqr_join", "host": "h2", "expires_at": "2026-01-01T01:00:00Z"}
        if self.path == "/v1/vms/nope":
            return 404, {
                "title": "not found",
                "status": 404,
                "detail": "There is no VM nope.",
                "code": "NQR-API-103",
            }
        if self.path.split("?")[0] == "/v1/vms" and self.command == "GET":
            return 200, {"items": [VM], "total": 1}
        if self.path.startswith("/v1/vms/") and "/volumes" in self.path:
            return 202, {**VM, "volumes": self.server.volumes, "state": "stopped"}
        if self.command == "DELETE":
            return 204, None
        if self.path == "/v1/templates" and self.command == "POST" and self.server.taken:
            return 409, {"title": "conflict", "status": 409, "detail": "There is one.", "code": "NQR-API-105"}
        if self.path.startswith("/v1/templates"):
            listed = self.path == "/v1/templates" and self.command == "GET"
            return 200, {"items": [TEMPLATE], "total": 1} if listed else TEMPLATE
        if self.path.startswith("/v1/volumes"):
            return 200, {"items": [VOLUME], "total": 1}
        self.server.looks += 1
        if isinstance(self.server.volumes, list):
            return 200, {**VM, "volumes": self.server.later, "error": self.server.error, "state": "stopped"}
        up = self.server.looks > 2
        return 200, {**VM, "guest_up_at": VM["guest_up_at"] if up else None, "ip": VM["ip"] if up else None}

    def log_message(self, *_: object) -> None:
        return None


@contextmanager
def answering(handler: type[Handler], monkeypatch: pytest.MonkeyPatch, token: str = "good") -> Iterator[Manager]:
    """A manager that nqr finds by its variables, and that answers as `handler` says."""
    server = Manager(("127.0.0.1", 0), handler)
    server.asked, server.later, server.url = [], [], f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NQR_MANAGER_URL", server.url)
    monkeypatch.setenv("NQR_TOKEN", token)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with answering(Handler, monkeypatch) as server:
        yield server


def test_vm_create_waits_for_the_guest_and_prints_its_address(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    words = "vm create --name web1 --image tiny --vcpus 1 --memory 1G --tag a --tag b --start --wait"
    assert run(words.split()) == 0
    assert capsys.readouterr().out.split() == [
        "id",
        "v1",
        "name",
        "web1",
        "state",
        "running",
        "ip",
        "10.0.0.10",
    ]
    method, path, body = manager.asked[0]
    assert (method, path, body["name"], body["memory_mib"], body["tags"]) == (
        "POST",
        "/v1/vms",
        "web1",
        1024,
        ["a", "b"],
    )
    assert manager.looks >= 3


def test_vm_ls_json_is_the_api_document(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "ls", "--output", "json"]) == 0
    (vm,) = json.loads(capsys.readouterr().out)["items"]
    assert {name: vm[name] for name in ("id", "name", "state", "desired_state", "host", "ip", "mac", "boot_id")} == {
        name: VM[name] for name in ("id", "name", "state", "desired_state", "host", "ip", "mac", "boot_id")
    }


def test_vm_ls_prints_a_table(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "ls"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["NAME", "STATE", "IP", "HOST"]
    assert row.split()[:4] == ["web1", "running", "10.0.0.10", "h1"]


@pytest.mark.parametrize(
    ("words", "token", "code", "cure"),
    [
        (["vm", "show", "nope"], "good", "NQR-API-103", "`ls`"),
        (["vm", "ls"], "bad", "NQR-API-101", "NQR_TOKEN"),
    ],
)
def test_refusals_are_coded_with_a_cure(
    words: list[str], token: str, code: str, cure: str, manager: Manager,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("NQR_TOKEN", token)
    assert run(words) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{code}  ") and cure in said


def test_join_token_is_the_only_output(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["host", "token", "h2", "--ttl", "600"]) == 0
    assert capsys.readouterr().out == "nqr_join\n"


def test_vm_create_leaves_unset_options_to_the_template(manager: Manager) -> None:
    assert run(["vm", "create", "--name", "web1", "--template", "small", "--memory", "1G", "--no-autostart"]) == 0
    _, _, body = manager.asked[0]
    assert body == {"name": "web1", "template": "small", "memory_mib": 1024, "autostart": False, "start": True}


def test_volumes_are_sizes_or_names_and_limits_have_units(manager: Manager) -> None:
    words = "vm create --name web1 --image tiny --volume 2G:keep --volume db1-vdb --net-rx 100M --net-tx 512k --disk-rate 50M"
    assert run([*words.split(), "--disk-iops", "500"]) == 0
    _, _, body = manager.asked[0]
    assert body["volumes"] == [{"size_mib": 2048, "keep": True}, {"name": "db1-vdb"}]
    assert body["rate_limits"] == {"net_rx_kbit": 100_000, "net_tx_kbit": 512, "disk_kib": 51_200, "disk_iops": 500}


@pytest.mark.parametrize("words", ["vm create --name web1 --image tiny", "template create --name small --image tiny"])
def test_the_images_own_network_can_be_left_alone(manager: Manager, words: str) -> None:
    assert run([*words.split(), "--network-config", "image"]) == 0
    assert manager.asked[0][2]["network_config"] == "image"


@pytest.mark.parametrize(
    "words",
    [
        "vm create --name web1", "vm create --name web1 --image tiny --net-rx 100", "vm create --name web1 --image tiny --net-tx 1T",
        "vm create --name web1 --image tiny --disk-iops 1", "vm create --name web1 --image tiny --volume 2G:no",
        "vm limit web1 --disk-rate x", "vm limit web1 --none --disk-iops 500", "vm limit web1 --disk-iops 1",
        "template create --name small --image tiny --user ana", "template create --name Small --image tiny",
        "template create --name small --image tiny --volume db1-vdb", "vm create --name web1 --image tiny --network-config static",
        "volume attach web1", "volume attach web1 --size 1G --name data1", "volume attach web1 --size 1", "volume attach web1 --name ../x",
        "volume detach web1 vdb --keep --delete", "vm create --name web1 --image tiny --timeout 9 --no-wait", "vm stop web1 --no-wait --timeout 9", "vm rm web1 --timeout 9 --no-wait",
        "volume attach web1 --size 1G --timeout 9 --no-wait",
    ],
)  # fmt: skip
def test_invalid_options_are_refused_before_any_request(manager: Manager, capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert run(words.split()) == 2
    assert "NQR-USE-003" in capsys.readouterr().err
    assert manager.asked == []


def test_limits_are_shown_set_and_removed(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("vm limit web1", "vm limit web1 --net-rx 1G", "vm limit web1 --none"):
        assert run(words.split()) == 0
    assert [(method, path) for method, path, _ in manager.asked] == [
        ("GET", "/v1/vms/web1"), ("PUT", "/v1/vms/web1/rate-limits"), ("PUT", "/v1/vms/web1/rate-limits"),
    ]  # fmt: skip
    assert [body for _, _, body in manager.asked] == [None, {"net_rx_kbit": 1_000_000}, {}]
    assert "rate limits  none" in capsys.readouterr().out


def test_templates_are_made_shown_and_replaced_when_told_to(
    manager: Manager, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc a@b\n")
    words = f"template create --name small --image tiny --vcpus 2 --user ana --ssh-key {key} --volume 64:keep"
    assert run(words.split()) == 0
    method, path, body = manager.asked[0]
    assert (method, path, body["name"], body["vcpus"]) == ("POST", "/v1/templates", "small", 2)
    assert (body["users"], body["ssh_keys"]) == (
        [{"name": "ana", "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc a@b"]}],
        [],
    )
    assert body["volumes"] == [{"size_mib": 64, "keep": True}]
    manager.taken = True
    assert run(words.split()) == 1
    assert "NQR-API-105" in capsys.readouterr().err
    assert run([*words.split(), "--replace"]) == 0
    assert manager.asked[-1][:2] == ("PUT", "/v1/templates/small")
    assert run(["template", "ls"]) == 0 and run(["template", "show", "small"]) == 0
    assert "256 MiB" in capsys.readouterr().out
    assert run(["template", "rm", "small"]) == 0
    assert manager.asked[-1][:2] == ("DELETE", "/v1/templates/small")


def test_kept_volumes_are_listed_and_deleted(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["volume", "ls", "--host", "h1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == ["db1-vdb-v1", "64", "MiB", "h1", "-"]
    assert run(["volume", "ls", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0] == VOLUME
    assert run(["volume", "rm", "db1-vdb-v1"]) == 0
    assert [call[:2] for call in manager.asked] == [
        ("GET", "/v1/volumes?host=h1"), ("GET", "/v1/volumes"), ("DELETE", "/v1/volumes/db1-vdb-v1"),
    ]  # fmt: skip


COMES = {"device": "vdb", "size_mib": 1024, "keep": True, "name": None, "kept_as": "web1-vdb-v1-2", "change": "attaching"}
STAYS = {**COMES, "change": None}
GOES = {**COMES, "change": "detaching", "data": "keep"}


def test_a_volume_is_attached_and_waited_for(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.volumes, manager.later = [COMES], [STAYS]
    assert run(["volume", "attach", "web1", "--size", "1G", "--keep"]) == 0
    assert manager.asked == [("POST", "/v1/vms/web1/volumes", {"size_mib": 1024, "keep": True}), ("GET", "/v1/vms/v1", None)]
    assert capsys.readouterr().out.split("\n")[1].split(maxsplit=1) == ["volumes", "vdb 1024 MiB (kept)"]
    assert run(["volume", "attach", "web1", "--name", "data1", "--no-wait", "--output", "json"]) == 0
    assert manager.asked[2:] == [("POST", "/v1/vms/web1/volumes", {"name": "data1"})]
    assert json.loads(capsys.readouterr().out)["volumes"][0]["change"] == "attaching"
    manager.later = [GOES]
    assert run(["vm", "show", "web1"]) == 0
    assert "vdb 1024 MiB (kept, detaching)" in capsys.readouterr().out


def test_a_volume_is_detached_and_where_it_stays_is_told(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.volumes, manager.later = [GOES], []
    assert run(["volume", "detach", "web1", "vdb"]) == 0
    assert "kept as  web1-vdb-v1-2" in capsys.readouterr().out
    for flag in ("--keep", "--delete"):
        assert run(["volume", "detach", "web1", "vdb", flag, "--no-wait"]) == 0
    assert [call[:2] for call in manager.asked] == [
        ("DELETE", "/v1/vms/web1/volumes/vdb"), ("GET", "/v1/vms/v1"),
        ("DELETE", "/v1/vms/web1/volumes/vdb?data=keep"), ("DELETE", "/v1/vms/web1/volumes/vdb?data=delete"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "first", "then"),
    [
        ("volume attach web1 --size 1G", [COMES], [{**COMES, "change": "withdrawing"}]), ("volume attach web1 --size 1G", [COMES], []),
        ("volume detach web1 vdb", [GOES], [STAYS]),
    ],
)  # fmt: skip
def test_failed_volume_attach_or_detach_is_an_error(
    manager: Manager, capsys: pytest.CaptureFixture[str], words: str, first: list[Any], then: list[Any]
) -> None:
    manager.volumes, manager.later, manager.error = first, then, "The disk is full."
    assert run(words.split()) == 1
    said = capsys.readouterr().err
    assert "NQR-API-197" in said and "The disk is full." in said

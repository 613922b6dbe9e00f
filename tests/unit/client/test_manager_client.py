"""The manager's clients: their requests, errors and waits. The same tests run for both clients."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from nqrust.client import calls, waiting
from nqrust.client.call import websocket_url
from nqrust.client.manager import (
    AsyncManagerClient,
    ManagerClient,
    Refused,
    Unreachable,
    WaitFailed,
    WaitTimeout,
)
from nqrust.contract.vms import StopRequest, VmCreate, VolumeCreate

VM = {
    "id": "0b",
    "name": "web1",
    "state": "running",
    "desired_state": "running",
    "mac": "06:00:00:00:00:01",
    "image": "tiny",
    "vcpus": 1,
    "memory_mib": 256,
    "disk_mib": 64,
    "created_at": "2026-01-01T00:00:00Z",
    "tap": "tap0",
}
PROBLEM = {"title": "not found", "status": 404, "detail": "There is no VM x.", "code": "NQR-API-103", "cure": "List them."}


class Either:
    """Call the synchronous and the asynchronous client alike."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            result = getattr(self._client, name)(*arguments, **named)
            return asyncio.run(result) if inspect.isawaitable(result) else result

        return call


@pytest.fixture(params=[ManagerClient, AsyncManagerClient])
def connect(request: Any) -> Any:
    def make(handler: Any, token: str | None = "nqr_t") -> Either:
        return Either(request.param("http://manager:18080/", token=token, transport=httpx.MockTransport(handler)))

    return make


def answering(status: int, body: Any, seen: list[httpx.Request] | None = None) -> Any:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, json=body) if body is not None else httpx.Response(status)

    return handle


def test_requests_carry_token_key_and_body(connect: Any) -> None:
    seen: list[httpx.Request] = []
    client = connect(answering(201, VM, seen))
    vm = client.send(calls.create_vm(VmCreate(name="web1", image="tiny"), idempotency_key="k"))
    assert (vm.name, vm.state.value) == ("web1", "running")
    assert str(seen[0].url) == "http://manager:18080/v1/vms"
    assert seen[0].headers["authorization"] == "Bearer nqr_t" and seen[0].headers["idempotency-key"] == "k"
    assert json.loads(seen[0].content)["image"] == "tiny"
    client.send(calls.stop_vm("a?b", StopRequest(force=True)))
    assert seen[1].url.raw_path == b"/v1/vms/a%3Fb/stop" and json.loads(seen[1].content)["force"] is True


def test_client_attaches_and_detaches_volumes_of_a_vm(connect: Any) -> None:
    seen: list[httpx.Request] = []
    client = connect(answering(202, VM, seen))
    client.send(calls.attach_volume("a?b", VolumeCreate(size_mib=64, keep=True)))
    client.send(calls.attach_volume("web1", VolumeCreate(name="data1")))
    client.send(calls.detach_volume("web1", "vdb"))
    client.send(calls.detach_volume("web1", "vdc", data="delete", volume="web1-vdc-1f"))
    assert [(one.method, one.url.raw_path) for one in seen] == [
        ("POST", b"/v1/vms/a%3Fb/volumes"), ("POST", b"/v1/vms/web1/volumes"),
        ("DELETE", b"/v1/vms/web1/volumes/vdb"), ("DELETE", b"/v1/vms/web1/volumes/vdc?data=delete&volume=web1-vdc-1f"),
    ]  # fmt: skip
    assert [json.loads(one.content) for one in seen[:2]] == [{"size_mib": 64, "keep": True}, {"name": "data1"}]


def test_client_keeps_its_session_after_sign_in(connect: Any) -> None:
    seen: list[httpx.Request] = []
    session = {"token": "nqr_new", "expires_at": "2026-01-01T00:00:00Z", "username": "admin", "role": "admin"}
    client = connect(answering(200, session, seen), token=None)
    client.login("admin", "pw")
    assert "authorization" not in seen[0].headers
    client.login("admin", "pw")
    assert seen[1].headers["authorization"] == "Bearer nqr_new"


def test_an_error_brings_its_code_and_cure(connect: Any) -> None:
    with pytest.raises(Refused) as refused:
        connect(answering(404, PROBLEM)).send(calls.get_vm("x"))
    assert (refused.value.status, refused.value.code, refused.value.cure) == (404, "NQR-API-103", "List them.")
    assert str(refused.value) == "There is no VM x."


def test_an_error_that_is_no_problem_is_still_an_error(connect: Any) -> None:
    with pytest.raises(Refused) as refused:
        connect(lambda request: httpx.Response(502, text="<html>bad gateway")).send(calls.get_vm("x"))
    assert refused.value.status == 502 and refused.value.problem.status == 502


def test_password_is_sent_in_the_body_and_a_short_one_is_not_sent(connect: Any) -> None:
    seen: list[httpx.Request] = []
    client = connect(answering(204, None, seen))
    assert client.send(calls.change_password("the current one", "the new password")) is None
    with pytest.raises(ValidationError):
        client.send(calls.change_password("the current one", "short"))
    (asked,) = seen
    assert (asked.method, str(asked.url)) == ("PUT", "http://manager:18080/v1/auth/password")
    assert json.loads(asked.content) == {"current_password": "the current one", "new_password": "the new password"}


@pytest.mark.parametrize("fault", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
def test_client_reports_an_unreachable_manager(connect: Any, fault: Exception) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise fault

    with pytest.raises(Unreachable) as away:
        connect(handle).send(calls.list_vms())
    assert "http://manager:18080" in str(away.value) and away.value.cure


def test_answer_of_another_server_counts_as_unreachable(connect: Any) -> None:
    with pytest.raises(Unreachable, match="not as a manager does"):
        connect(lambda request: httpx.Response(200, text="<html>hello")).send(calls.list_vms())


def test_health_tells_that_the_database_is_away(connect: Any) -> None:
    assert connect(answering(503, {"status": "database away", "version": "1"})).send(calls.health()).status == "database away"


def states(*answers: Any) -> Any:
    """Give one answer after the other, and repeat the last."""
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(404, json=PROBLEM) if answer is None else httpx.Response(200, json={**VM, **answer})

    return handle


@pytest.fixture(autouse=True)
def quick(monkeypatch: Any) -> None:
    monkeypatch.setattr(waiting, "_PAUSES", (0.001, 0.001))


def test_wait_for_the_guest_through_a_restart_of_the_manager(connect: Any) -> None:
    up = {"guest_up_at": "2026-01-01T00:00:00Z", "ip": "10.0.0.10"}
    client = connect(states({"state": "starting"}, httpx.ConnectError("restarting"), {}, up))
    assert client.wait_for("web1", "guest_up", timeout=5).ip == "10.0.0.10"


def test_client_waits_for_deletion_and_for_any_condition(connect: Any) -> None:
    assert connect(states({"state": "deleting"}, None)).wait_for("web1", "deleted", timeout=5) is None
    assert connect(states({}, {"vcpus": 4})).wait_for("web1", lambda vm: vm.vcpus == 4, timeout=5).vcpus == 4


def test_waiting_fails_at_once_when_the_vm_failed(connect: Any) -> None:
    with pytest.raises(WaitFailed, match="no space left"):
        connect(states({"state": "failed", "error": "no space left"})).wait_for("web1", "running", timeout=60)
    with pytest.raises(WaitFailed, match="gone"):
        connect(states(None)).wait_for("web1", "running", timeout=60)


def test_waiting_ends_when_time_is_up_and_says_what_was_seen(connect: Any) -> None:
    with pytest.raises(WaitTimeout, match="it is starting \\(no host\\)"):
        connect(states({"state": "starting", "error": "no host"})).wait_for("web1", "running", timeout=0.05)
    with pytest.raises(Unreachable):
        connect(states(httpx.ConnectError("down"))).wait_for("web1", "running", timeout=0.05)


def test_console_url(connect: Any) -> None:
    ticket = {"ticket": "a?b+c", "path": "/v1/vms/0b/console", "expires_in": 30}
    connected = connect(answering(201, ticket))
    url = websocket_url("http://manager:18080", connected.send(calls.console_ticket("web1")))
    assert url == "ws://manager:18080/v1/vms/0b/console?ticket=a%3Fb%2Bc"


def test_sync_and_async_clients_have_the_same_methods() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") and name not in ("close", "aclose")
        }

    assert public(ManagerClient) == public(AsyncManagerClient)

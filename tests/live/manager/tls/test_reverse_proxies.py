"""A reverse proxy on the manager's machine connects from loopback for anybody. It makes nobody the agent of this machine."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.live.manager.conftest import ADMIN_TOKEN, JOIN_TOKEN, host_body
from tests.live.manager.tls.conftest import ELSEWHERE, Agent, Secured

from nqrust.tls import authority

NOBODY = 65534
PROXY = """
import asyncio, sys

async def main():
    async def pass_on(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader, writer):
        back, forth = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
        await asyncio.gather(pass_on(reader, forth), pass_on(back, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.2", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a program of another user")


@pytest.fixture
async def proxy(secured: Secured) -> AsyncIterator[str]:
    """The address of a proxy that passes on each byte, as another user."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROXY, str(secured.port), stdout=asyncio.subprocess.PIPE, user=NOBODY, group=NOBODY, extra_groups=()
    )
    try:
        assert process.stdout is not None
        yield f"http://{ELSEWHERE}:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.wait()


async def asked(base: str, method: str, path: str, token: str, body: Any = None, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, base_url=base, timeout=60) as client:
        return await client.request(method, path, json=body, headers={"Authorization": f"Bearer {token}", **headers})


def requests_of(joined: Agent) -> list[tuple[str, str, Any]]:
    """What the holder of an agent's token would like to send."""
    host = f"/v1/hosts/{joined.known.host_id}"
    request = authority.new_request(authority.new_key())
    return [
        ("POST", f"{host}/certificate", {"certificate_request": request}),
        ("POST", "/v1/hosts/register", host_body("kvm1", url=f"https://{ELSEWHERE}:19090").model_dump(mode="json")),
        ("POST", f"{host}/tokens", {}),
        ("POST", f"{host}/heartbeat", joined.beat().model_dump(mode="json")),
        ("POST", f"{host}/vms/v1/guest", {"token": "nqr_guest", "report": {"ip": "10.0.0.9", "boot_id": "b"}}),
        ("GET", "/v1/images/tiny/blobs/rootfs", None),
    ]


async def test_a_stolen_token_is_refused_behind_a_proxy(secured: Secured, joined: Agent, proxy: str) -> None:
    before = await secured.host(joined.known.host_id)
    for method, path, body in requests_of(joined):
        answer = await asked(proxy, method, path, joined.known.agent_token, body)
        assert (answer.status_code, answer.json()["code"]) == (426, "NQR-API-150"), path
    after = await secured.host(joined.known.host_id)
    assert (after.url, after.command_token, after.certificate) == (before.url, before.command_token, before.certificate)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
async def test_a_stolen_token_is_refused_behind_a_proxy_of_root_that_says_so(
    secured: Secured, joined: Agent, header: str
) -> None:
    base = f"http://127.0.0.1:{secured.port}"
    for method, path, body in requests_of(joined):
        answer = await asked(base, method, path, joined.known.agent_token, body, **{header: "192.0.2.1"})
        assert (answer.status_code, answer.json()["code"]) == (426, "NQR-API-150"), path


async def test_a_join_token_is_refused_behind_a_proxy(secured: Secured, proxy: str) -> None:
    token = (await secured.join_token("kvm9")).partition(".")[0]
    for one, name in ((token, "kvm9"), (JOIN_TOKEN, "local")):
        answer = await asked(proxy, "POST", "/v1/hosts/register", one, host_body(name).model_dump(mode="json"))
        assert (answer.status_code, answer.json()["code"]) == (426, "NQR-API-150")
        assert (await asked(proxy, "GET", "/v1/hosts/join-check", one)).status_code == 426


async def test_without_tls_a_proxy_is_not_the_managers_machine(secured: Secured, proxy: str) -> None:
    secured.running.core.trust = None
    answer = await asked(proxy, "POST", "/v1/hosts/register", JOIN_TOKEN, host_body("kvm9").model_dump(mode="json"))
    assert (answer.status_code, answer.json()["code"]) == (401, "NQR-API-114")
    token = await secured.join_token("kvm9")
    here = host_body("kvm9", url="http://127.0.0.1:19090").model_dump(mode="json")
    answer = await asked(proxy, "POST", "/v1/hosts/register", token, here)
    assert (answer.status_code, answer.json()["code"]) == (422, "NQR-API-115")
    elsewhere = host_body("kvm9").model_dump(mode="json")
    assert (await asked(proxy, "POST", "/v1/hosts/register", token, elsewhere)).status_code == 200


async def test_users_come_through_a_proxy(secured: Secured, proxy: str) -> None:
    assert (await asked(proxy, "GET", "/v1/vms", ADMIN_TOKEN)).status_code == 200


async def test_the_agent_of_this_machine_needs_no_tls(secured: Secured) -> None:
    base = f"http://127.0.0.1:{secured.port}"
    answer = await asked(base, "POST", "/v1/hosts/register", JOIN_TOKEN, host_body("local").model_dump(mode="json"))
    assert answer.status_code == 200
    host = answer.json()
    beat = {"version": "0.2.0", "boot_id": "boot-1", "capacity": host_body().capacity.model_dump(mode="json")}
    answer = await asked(base, "POST", f"/v1/hosts/{host['host_id']}/heartbeat", host["agent_token"], beat)
    assert answer.status_code == 200

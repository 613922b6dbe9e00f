"""Who may do what: every route, every role, every kind of credential."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from starlette.routing import WebSocketRoute

import nqrust
from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.auth import Role, TokenCreate, UserCreate, UserUpdate
from nqrust.contract.hosts import Heartbeat
from nqrust.contract.vms import VmCreate

OPEN = {("GET", "/health"), ("POST", "/v1/auth/login"), ("GET", "/v1/authority")}
VIEWER_MAY = {
    ("GET", path)
    for path in (
        "/health",
        "/v1/authority",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/v1/auth/me",
        "/v1/vms",
        "/v1/unknown-vms",
        "/v1/vms/{vm}",
        "/v1/vms/{vm}/events",
        "/v1/vms/{vm}/snapshots",
        "/v1/templates",
        "/v1/templates/{name}",
        "/v1/volumes",
        "/v1/image-catalogue",
        "/v1/images",
        "/v1/images/{name}",
        "/v1/hosts",
        "/v1/hosts/{host}",
        "/v1/events",
    )
} | {("POST", "/v1/auth/logout"), ("POST", "/v1/auth/login"), ("PUT", "/v1/auth/password")}


def routes(app: Any) -> list[tuple[str, str]]:
    """(method, path template) of every HTTP route, from the routers themselves and not from the OpenAPI document."""
    found: list[tuple[str, str]] = []

    def walk(items: Any) -> None:
        for route in items:
            if isinstance(route, WebSocketRoute) or "WebSocket" in type(route).__name__:
                continue
            inner = getattr(route, "original_router", None) or getattr(route, "app", None)
            if getattr(route, "methods", None):
                found.extend((method, route.path) for method in route.methods if method != "HEAD")
            elif inner is not None and getattr(inner, "routes", None):
                walk(inner.routes)

    walk(app.routes)
    return sorted(set(found))


def raw(manager: Any, **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=manager.app, client=("127.0.0.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://manager", **options)


def filled(path: str) -> str:
    return path.replace("{", "").replace("}", "")


async def test_every_route_refuses_a_caller_without_credentials(manager: Any) -> None:
    known = routes(manager.app)
    assert len(known) >= 47, "the test no longer finds the routes"
    async with raw(manager) as http:
        for method, path in known:
            if (method, path) in OPEN:
                continue
            answer = await http.request(method, filled(path))
            assert answer.status_code == 401, (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"].startswith("Basic")
        for path in ("/", "/v1/nothing", "/docs/", "/v1/vms/"):
            assert (await http.get(path)).status_code == 401, path
        bad = {"Authorization": "Bearer nqr_wrong"}
        assert (await http.get("/v1/vms", headers=bad)).status_code == 401


async def test_viewer_has_read_only_access(manager: Any) -> None:
    token = (await manager.admin.send(calls.create_token(TokenCreate(name="v", role=Role.viewer)))).token
    async with raw(manager, headers={"Authorization": f"Bearer {token}"}) as http:
        for method, path in routes(manager.app):
            status = (await http.request(method, filled(path))).status_code
            if (method, path) in VIEWER_MAY:
                assert status != 403, (method, path)
            else:
                assert status == 403, (method, path, status)


async def test_an_operator_runs_vms_but_manages_no_accounts(manager: Any) -> None:
    operator = await manager.role("operator")
    await operator.send(calls.create_vm(VmCreate(name="v1", image="tiny")))
    for call in (
        operator.send(calls.users()),
        operator.send(calls.tokens()),
        operator.send(calls.audit()),
        operator.send(calls.join_token("h2")),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert (refused.value.status, refused.value.code) == (403, "NQR-API-102")


async def test_an_agent_touches_its_own_host_only(manager: Any) -> None:
    one, _, one_client = await manager.host("h1")
    two, _, _ = await manager.host("h2", first="10.0.0.100")
    beat = Heartbeat(version="1", boot_id="boot-1", capacity={"cpus": 1, "memory_mib": 1024})
    await one_client.send(calls.heartbeat(one.host_id, beat))
    with pytest.raises(Refused) as refused:
        await one_client.send(calls.heartbeat(two.host_id, beat))
    assert refused.value.status == 403
    for call in (
        one_client.send(calls.list_vms()),
        one_client.send(calls.list_hosts()),
        one_client.send(calls.create_vm(VmCreate(name="x", image="tiny"))),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.status == 403
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.heartbeat(one.host_id, beat))
    assert refused.value.status == 403


async def test_a_browser_gets_in_with_username_and_password(manager: Any, admin_password: str) -> None:
    async with raw(manager, auth=("admin", admin_password)) as http:
        docs = await http.get("/docs")
        assert docs.status_code == 200 and "openapi.json" in docs.text
        assert "://" not in docs.text, "the page must not need other machines"
        assert (await http.get("/openapi.json")).json()["info"]["title"]
    async with raw(manager, auth=("admin", "wrong")) as http:
        assert (await http.get("/docs")).status_code == 401
    for value in (
        "Basic",
        "Basic %%%",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        "Digest x",
        "Bearer ",
    ):
        async with raw(manager, headers={"Authorization": value}) as http:
            assert (await http.get("/docs")).status_code == 401, value


async def test_the_description_of_the_api_is_for_users_and_tokens_only(
    manager: Any, join_token: str, admin_password: str
) -> None:
    """Strangers, agents and join tokens learn nothing of the routes."""
    joined, _, _ = await manager.host("h1")
    viewer, session = await manager.role("viewer"), manager.client()
    await session.login("admin", admin_password)
    for path in ("/docs", "/openapi.json"):
        for token, status in (("", 401), ("nqr_guess", 401), (joined.agent_token, 403), (join_token, 403)):
            async with raw(manager, headers={"Authorization": f"Bearer {token}"} if token else {}) as http:
                answer = await http.get(path)
                assert answer.status_code == status and "/v1/vms" not in answer.text, (path, token)
        for client in (viewer, session):
            async with raw(manager, headers={"Authorization": client._http.headers["Authorization"]}) as http:
                assert (await http.get(path)).status_code == 200
    for path in ("/redoc", "/docs/oauth2-redirect", "/v1/openapi.json"):
        async with raw(manager) as http:
            assert (await http.get(path)).status_code == 401


async def test_sign_in_and_out(manager: Any, admin_password: str) -> None:
    client = manager.client()
    session = await client.login("admin", admin_password)
    assert session.role is Role.admin
    assert (await client.send(calls.me())).username == "admin"
    await client.send(calls.logout())
    with pytest.raises(Refused) as refused:
        await client.send(calls.me())
    assert refused.value.status == 401


async def test_guessing_is_throttled_per_user_and_source(manager: Any, admin_password: str) -> None:
    statuses = []
    for _ in range(7):
        with pytest.raises(Refused) as refused:
            await manager.client().login("admin", "guess")
        statuses.append(refused.value.status)
    assert statuses[:5] == [401] * 5 and statuses[5] == 429
    with pytest.raises(Refused) as refused:
        await manager.client().login("admin", admin_password)
    assert (refused.value.status, refused.value.code) == (429, "NQR-API-106")
    assert await manager.client(source="192.0.2.9").login("admin", admin_password)


async def test_deleting_a_user_ends_its_sessions_and_the_last_administrator_stays(manager: Any, admin_password: str) -> None:
    user = await manager.admin.send(calls.create_user(UserCreate(username="ann", password="a long password", role=Role.operator)))
    ann = manager.client()
    await ann.login("ann", "a long password")
    await manager.admin.send(calls.delete_user(user.id))
    with pytest.raises(Refused) as refused:
        await ann.send(calls.me())
    assert refused.value.status == 401
    users = (await manager.admin.send(calls.users())).items
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.delete_user(users[0].id))
    assert refused.value.status == 409


async def test_the_installers_join_token_is_for_this_machine_only(manager: Any, host_body: Any, join_token: str) -> None:
    with pytest.raises(Refused) as refused:
        await manager.client(join_token, source="192.0.2.7").send(calls.register(host_body("h1")))
    assert refused.value.code == "NQR-API-114"
    first = await manager.client(join_token).send(calls.register(host_body("h1")))
    second = await manager.client(join_token).send(calls.register(host_body("h1")))
    assert first.host_id == second.host_id and first.agent_token != second.agent_token
    with pytest.raises(Refused):
        await manager.client(first.agent_token).send(calls.register(host_body("h1")))
    again = await manager.client(second.agent_token).send(calls.register(host_body("h1")))
    assert (again.host_id, again.agent_token, again.command_token) == (first.host_id, "", "")


async def test_a_remote_agent_that_advertises_loopback_is_refused(manager: Any, host_body: Any) -> None:
    token = (await manager.admin.send(calls.join_token("h1", 600))).token
    for url in ("http://127.0.0.1:19090", "http://localhost:19090", "http://0.0.0.0:19090"):
        with pytest.raises(Refused) as refused:
            await manager.client(token, source="192.0.2.7").send(calls.register(host_body("h1", url=url)))
        assert refused.value.code == "NQR-API-115" and "--advertise-address" in refused.value.cure
    for url in ("ftp://h:1", "http://h", "nonsense", "http://h:99999"):
        with pytest.raises(Refused) as refused:
            await manager.client(token, source="192.0.2.7").send(calls.register(host_body("h1", url=url)))
        assert refused.value.status == 422


async def test_every_change_is_in_the_audit_log_with_its_request_id(manager: Any) -> None:
    async with raw(manager, headers={"Authorization": f"Bearer {manager.admin_token}"}) as http:
        answer = await http.post("/v1/images/scan", headers={"X-Request-Id": "my-id-1"})
        assert answer.headers["x-request-id"] == "my-id-1"
        answer = await http.post("/v1/images/scan", headers={"X-Request-Id": "bad id\t"})
        assert answer.headers["x-request-id"] not in ("", "bad id\t")
    with pytest.raises(Refused):
        await manager.client().login("mallory", "guess")
    entries = (await manager.admin.send(calls.audit())).items
    assert [(e.actor, e.path, e.status) for e in entries[:3]] == [
        ("sign-in:mallory", "/v1/auth/login", 401),
        ("token:cli", "/v1/images/scan", 200),
        ("token:cli", "/v1/images/scan", 200),
    ]
    assert entries[2].request_id == "my-id-1"


async def test_errors_are_problems_with_code_and_cure_and_never_echo_the_request(manager: Any) -> None:
    async with raw(manager, headers={"Authorization": f"Bearer {manager.admin_token}"}) as http:
        answers = [
            await http.get("/v1/vms/none"),
            await http.put("/v1/vms"),
            await http.get("/nothing"),
            await http.post("/v1/vms", json={"name": "X", "image": "tiny"}),
            await http.post("/v1/vms", content=b"{", headers={"Content-Type": "application/json"}),
            await http.post("/v1/users", json={"username": "u", "password": "hunter2hunt"}),
            await http.post("/v1/vms", content=b"x" * (1024 * 1024 + 1)),
            await http.get("/v1/vms/a%00b"),
            await http.get("/v1/events", params={"after": str(2**70)}),
        ]
        assert [a.status_code for a in answers] == [404, 405, 404, 422, 422, 422, 413, 422, 422]
        for answer in answers:
            assert answer.headers["content-type"] == "application/problem+json"
            body = answer.json()
            assert body["code"].startswith("NQR-API-") and body["cure"] and body["request_id"], body
            assert "hunter2" not in answer.text


async def test_health_is_open_and_metrics_are_not(manager: Any) -> None:
    async with raw(manager) as http:
        assert (await http.get("/health")).json() == {"status": "ok", "version": nqrust.__version__}
    await manager.host()
    text = await manager.admin.send(calls.metrics())
    assert 'nqrust_hosts{state="online"} 1.0' in text and "nqrust_leader 1.0" in text


async def test_a_new_password_ends_sessions_and_a_new_role_holds_at_once(manager: Any) -> None:
    user = await manager.admin.send(calls.create_user(UserCreate(username="ann", password="a long password")))
    ann = manager.client()
    await ann.login("ann", "a long password")
    await manager.admin.send(calls.update_user(user.id, UserUpdate(role=Role.operator)))
    await ann.send(calls.scan_images())
    await manager.admin.send(calls.update_user(user.id, UserUpdate(password="another password")))
    for call in (ann.send(calls.me()), manager.client().login("ann", "a long password")):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.status == 401
    assert (await manager.client().login("ann", "another password")).role is Role.operator
    admin = next(u for u in (await manager.admin.send(calls.users())).items if u.role is Role.admin)
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.update_user(admin.id, UserUpdate(role=Role.viewer)))
    assert refused.value.status == 409


@pytest.mark.parametrize("role", list(Role))
async def test_everybody_changes_their_own_password_and_is_signed_out_elsewhere(manager: Any, role: Role) -> None:
    await manager.admin.send(calls.create_user(UserCreate(username="ann", password="a long password", role=role)))
    here, elsewhere, other = manager.client(), manager.client(), manager.client()
    for client in (here, elsewhere):
        await client.login("ann", "a long password")
    await manager.admin.send(calls.create_user(UserCreate(username="bob", password="a long password")))
    await other.login("bob", "a long password")
    async with raw(manager, auth=("ann", "a long password")) as browser:
        assert (await browser.get("/v1/auth/me")).status_code == 200
        await here.send(calls.change_password("a long password", "another password"))
        assert (await browser.get("/v1/auth/me")).status_code == 401
    assert (await here.send(calls.me())).username == "ann" and (await other.send(calls.me())).username == "bob"
    for call in (elsewhere.send(calls.me()), manager.client().login("ann", "a long password")):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.status == 401
    assert (await manager.client().login("ann", "another password")).role is role
    entry = next(e for e in (await manager.admin.send(calls.audit())).items if e.path == "/v1/auth/password")
    assert (entry.actor, entry.method, entry.status) == ("ann", "PUT", 204)


async def test_a_password_is_changed_by_basic_credentials_too(manager: Any, admin_password: str) -> None:
    session = manager.client()
    await session.login("admin", admin_password)
    change = {"current_password": admin_password, "new_password": "another password"}
    async with raw(manager, auth=("admin", admin_password)) as http:
        assert (await http.put("/v1/auth/password", json=change)).status_code == 204
    with pytest.raises(Refused):
        await session.send(calls.me())
    assert await manager.client().login("admin", "another password")


async def test_the_current_password_is_needed_and_guessing_it_is_throttled(manager: Any) -> None:
    await manager.admin.send(calls.create_user(UserCreate(username="ann", password="a long password")))
    ann = manager.client()
    await ann.login("ann", "a long password")
    answers = []
    for _ in range(6):
        with pytest.raises(Refused) as refused:
            await ann.send(calls.change_password("a wrong password", "another password"))
        answers.append((refused.value.status, refused.value.code))
    assert answers == [(403, "NQR-API-126")] * 5 + [(429, "NQR-API-106")]
    with pytest.raises(Refused) as refused:
        await manager.client().login("ann", "a long password")
    assert refused.value.status == 429, "both ways of guessing are counted together"
    assert (await ann.send(calls.me())).username == "ann"
    assert [e.status for e in (await manager.admin.send(calls.audit())).items if e.path == "/v1/auth/password"] == [
        429,
        *[403] * 5,
    ]


async def test_invalid_new_password_is_refused(manager: Any, admin_password: str) -> None:
    admin = manager.client()
    await admin.login("admin", admin_password)
    with pytest.raises(Refused) as refused:
        await admin.send(calls.change_password(admin_password, admin_password))
    assert refused.value.status == 422
    async with raw(manager, headers={"Authorization": f"Bearer {manager.admin_token}"}) as http:
        short = await http.put(
            "/v1/auth/password", json={"current_password": admin_password, "new_password": "short-secret"[:11]}
        )
        assert short.status_code == 422 and "short-secre" not in short.text
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.change_password(admin_password, "another password"))
    assert (refused.value.status, refused.value.code) == (403, "NQR-API-102")
    assert await manager.client().login("admin", admin_password)


async def test_one_guesser_on_this_machine_does_not_lock_out_the_others(manager: Any, admin_password: str) -> None:
    for name in ("u1", "u2", "u3"):
        for _ in range(8):
            with pytest.raises(Refused):
                await manager.client().login(name, "guess")
    assert await manager.client().login("admin", admin_password)
    for name in ("u1", "u2", "u3", "u4", "u5"):
        for _ in range(8):
            with pytest.raises(Refused):
                await manager.client(source="192.0.2.9").login(name, "guess")
    with pytest.raises(Refused) as refused:
        await manager.client(source="192.0.2.9").login("admin", admin_password)
    assert refused.value.status == 429


async def test_host_names_are_neither_paths_nor_ids(manager: Any, host_body: Any, join_token: str) -> None:
    for name in ("a/b", "..", "-x", "x y", "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(Refused) as refused:
            await manager.client(join_token).send(calls.register(host_body(name, url="http://h:1")))
        assert refused.value.status == 422, name

"""Join tokens: what a stolen, replayed or misdirected one can do."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.auth import Role, TokenCreate, UserCreate, UserUpdate
from nqrust.contract.hosts import Heartbeat
from nqrust.contract.vms import VmCreate

THERE = "192.0.2.7"


async def token_for(manager: Any, name: str, **more: Any) -> str:
    return str((await manager.admin.send(calls.join_token(name, **more))).token)


async def joined(manager: Any, token: str, body: Any, source: str = THERE) -> Any:
    return await manager.client(token, source=source).send(calls.register(body))


async def refused(call: Any) -> Refused:
    with pytest.raises(Refused) as error:
        await call
    return error.value


async def sql(manager: Any, statement: str) -> None:
    async with manager.core.db.transaction() as session:
        await session.execute(text(statement))


async def go_offline(manager: Any) -> None:
    manager.core.started -= 3600
    await sql(manager, "UPDATE hosts SET last_seen_at = now() - interval '1 hour'")


async def beat(manager: Any, host: Any) -> None:
    """The agent has stored its credentials, and uses them."""
    capacity = {"cpus": 1, "memory_mib": 1024}
    call = calls.heartbeat(host.host_id, Heartbeat(version="1", boot_id="boot-1", capacity=capacity))
    await manager.client(host.agent_token).send(call)


async def test_a_known_agent_keeps_its_name(manager: Any, host_body: Any) -> None:
    """A token is for one name. A stolen agent must not become another host in the eyes of its users."""
    host = await joined(manager, await token_for(manager, "h1"), host_body("h1"))
    error = await refused(joined(manager, host.agent_token, host_body("db")))
    assert (error.status, error.code) == (409, "NQR-API-151")
    assert (await joined(manager, host.agent_token, host_body("h1"))).host_id == host.host_id


async def test_a_join_token_works_once(manager: Any, host_body: Any) -> None:
    token = await token_for(manager, "h1")
    host = await joined(manager, token, host_body("h1"))
    await beat(manager, host)
    error = await refused(joined(manager, token, host_body("h1")))
    assert (error.status, error.code) == (401, "NQR-API-114") and "already used" in str(error)
    await beat(manager, host)
    for call in (manager.client(token).send(calls.list_vms()), manager.client(token).send(calls.me())):
        assert (await refused(call)).status == 403


async def test_a_replayed_join_token_does_nothing_from_elsewhere(manager: Any, host_body: Any) -> None:
    """The attack: somebody reads the token on its way and sends it again before the first heartbeat."""
    token = await token_for(manager, "h1")
    host = await joined(manager, token, host_body("h1"))
    other_boot = host_body("h1").model_copy(update={"boot_id": "boot-2"})
    for source, body in (("192.0.2.66", host_body("h1")), (THERE, other_boot), (THERE, host_body("h2"))):
        assert (await refused(joined(manager, token, body, source))).code == "NQR-API-114"
    await beat(manager, host)


async def test_an_agent_that_died_before_it_stored_the_answer_joins_again(manager: Any, host_body: Any) -> None:
    token = await token_for(manager, "h1")
    first = await joined(manager, token, host_body("h1"))
    second = await joined(manager, token, host_body("h1"))
    assert first.host_id == second.host_id and first.agent_token != second.agent_token
    await beat(manager, second)
    assert (await refused(joined(manager, token, host_body("h1")))).code == "NQR-API-114"


async def test_a_join_token_is_for_one_host_name(manager: Any, host_body: Any) -> None:
    """The attack: a token for a new host registers under the name of another one."""
    await manager.host("h1")
    token = await token_for(manager, "h2")
    for name in ("h1", "h3"):
        error = await refused(joined(manager, token, host_body(name)))
        assert (error.status, error.code) == (401, "NQR-API-114")
        assert str(error) == f"This join token is for host h2, not for {name}."
    assert (await joined(manager, token, host_body("h2"))).agent_token, "the mistake did not use it up"


async def test_an_expired_join_token_is_refused(manager: Any, host_body: Any) -> None:
    token = await token_for(manager, "h1", ttl_seconds=60)
    await sql(manager, "UPDATE join_tokens SET expires_at = now() - interval '1 second' WHERE NOT reusable")
    error = await refused(joined(manager, token, host_body("h1")))
    assert error.code == "NQR-API-114" and "expired" in str(error)


async def test_an_offline_host_is_taken_over_only_where_an_administrator_said_replace(manager: Any, host_body: Any) -> None:
    """The attack: a token made before the host existed takes over its name, its record and its VMs."""
    early = await token_for(manager, "h1")
    old, _, _ = await manager.host("h1")
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    await go_offline(manager)
    error = await refused(joined(manager, early, host_body("h1")))
    assert (error.status, error.code) == (409, "NQR-API-142") and "nqr host token h1 --replace" in error.cure
    assert (await refused(manager.admin.send(calls.join_token("h1")))).code == "NQR-API-142"
    token = await token_for(manager, "h1", replace=True)
    new = await joined(manager, token, host_body("h1"))
    assert new.host_id == old.host_id
    assert (await refused(beat(manager, old))).status == 401
    assert (await manager.admin.send(calls.get_vm("web1"))).host == "h1"
    events = (await manager.admin.send(calls.list_events(subject="h1"))).items
    told = next(event for event in events if event.reason == "HostRegistered")
    assert told.severity == "warning" and told.message.endswith("It replaces the earlier host of that name, as cli allowed.")


async def test_a_host_that_is_online_cannot_be_replaced(manager: Any, host_body: Any) -> None:
    await manager.host("h1")
    token = await token_for(manager, "h1", replace=True)
    error = await refused(joined(manager, token, host_body("h1")))
    assert (error.status, error.code) == (409, "NQR-API-142") and "online" in str(error)


async def test_a_replacing_token_takes_over_once(manager: Any, host_body: Any) -> None:
    await manager.host("h1")
    token = await token_for(manager, "h1", replace=True)
    await go_offline(manager)
    await joined(manager, token, host_body("h1"))
    await go_offline(manager)
    assert (await refused(joined(manager, token, host_body("h1"), "192.0.2.66"))).code == "NQR-API-114"


async def test_a_new_join_token_ends_the_earlier_one_of_that_name(manager: Any, host_body: Any) -> None:
    lost, other = await token_for(manager, "h1"), await token_for(manager, "h2")
    token = await token_for(manager, "h1")
    assert (await refused(joined(manager, lost, host_body("h1")))).status == 401
    assert (await joined(manager, token, host_body("h1"))).agent_token
    assert (await joined(manager, other, host_body("h2", first="10.0.0.100"))).agent_token


async def administrator(manager: Any) -> tuple[Any, Any]:
    """Another administrator, and a client of theirs."""
    user = await manager.admin.send(
        calls.create_user(UserCreate(username="mallory", password="a long password", role=Role.admin))
    )
    client = manager.client()
    await client.login("mallory", "a long password")
    return user, client


async def test_a_join_token_ends_with_the_user_who_created_it(manager: Any, host_body: Any) -> None:
    user, client = await administrator(manager)
    token = (await client.send(calls.join_token("h1"))).token
    await manager.admin.send(calls.delete_user(user.id))
    assert (await refused(joined(manager, token, host_body("h1")))).status == 401


async def test_a_join_token_ends_with_the_rights_of_its_creator(manager: Any, host_body: Any) -> None:
    """The attack: an administrator who is about to lose the role, or a stolen token before it is revoked, makes a join token."""
    user, client = await administrator(manager)
    of_user = (await client.send(calls.join_token("h1"))).token
    await manager.admin.send(calls.update_user(user.id, UserUpdate(role=Role.operator)))
    assert (await refused(joined(manager, of_user, host_body("h1")))).status == 401

    stolen = await manager.admin.send(calls.create_token(TokenCreate(name="stolen", role=Role.admin, ttl_seconds=600)))
    thief = manager.client(stolen.token)
    second = await thief.send(calls.create_token(TokenCreate(name="second", role=Role.admin)))
    made = await thief.send(calls.join_token("h1"))
    tokens = [made.token, (await manager.client(second.token).send(calls.join_token("h2"))).token]
    assert made.expires_at <= stolen.expires_at, "and none that outlives it"
    kept = await token_for(manager, "h3")
    await manager.admin.send(calls.delete_token(stolen.id))
    for name, token in zip(("h1", "h2"), tokens, strict=True):
        assert (await refused(joined(manager, token, host_body(name)))).status == 401
    assert (await joined(manager, kept, host_body("h3"))).agent_token


@pytest.mark.parametrize("name", ["a/b", "-x", "x y", "00000000-0000-4000-8000-000000000000", ""])
async def test_join_tokens_are_for_usable_names(manager: Any, name: str) -> None:
    from nqrust.client.call import Call, nothing
    from nqrust.contract.auth import JoinTokenCreate

    body = JoinTokenCreate.model_construct(host=name, replace=False, ttl_seconds=600)
    assert (await refused(manager.admin.send(Call("POST", "/v1/hosts/join-tokens", nothing, body)))).status == 422


async def test_the_check_before_an_install_names_the_wrong_host_and_the_taken_name(manager: Any, host_body: Any) -> None:
    token = await token_for(manager, "h2")
    client = manager.client(token, source=THERE)

    from nqrust.client.call import Call, nothing

    def check(name: str) -> Call[None]:
        return Call("GET", "/v1/hosts/join-check", nothing, query={"name": name})

    await client.send(check("h2"))
    assert "for host h2, not for h1" in str(await refused(client.send(check("h1"))))
    await manager.host("h2")
    assert (await refused(client.send(check("h2")))).code == "NQR-API-142"


async def test_the_installers_join_token_is_for_its_own_host_name(manager: Any, host_body: Any, join_token: str) -> None:
    await sql(manager, "UPDATE join_tokens SET host_name = 'h1' WHERE reusable")
    error = await refused(joined(manager, join_token, host_body("h2"), "127.0.0.1"))
    assert error.code == "NQR-API-114"
    assert (await joined(manager, join_token, host_body("h1"), "127.0.0.1")).agent_token

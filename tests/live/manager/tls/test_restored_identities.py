"""What the manager believes after its database was restored from an older dump."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from tests.live.manager.tls.conftest import Agent, Secured

from nqrust.agent.link.manager_link import Refused
from nqrust.client import calls
from nqrust.contract.auth import Role, TokenCreate
from nqrust.tls import contexts

_DUMPED = ("hosts", "tokens")


async def test_a_restore_brings_back_a_revoked_token_and_the_former_machine_of_a_host(
    secured: Secured, joined: Agent, tmp_path: Path
) -> None:
    """docs/operate/backup.md says what to look at then."""

    async def sql(*statements: str) -> None:
        async with secured.running.core.db.transaction() as session:
            for statement in statements:
                await session.execute(text(statement))

    async def heartbeat(agent: Agent) -> int:
        known, body = agent.known, joined.beat().model_dump(mode="json")
        own = contexts.client(known.identity.authority, known.identity.certificate, known.identity.key)
        own.check_hostname = False
        path = f"/v1/hosts/{joined.known.host_id}/heartbeat"
        return (await secured.ask("POST", path, known.agent_token, tls=own, body=body)).status_code

    token = await secured.running.admin.send(calls.create_token(TokenCreate(name="deploy", role=Role.admin)))
    await sql(*(f"CREATE TABLE dump_{name} AS TABLE {name}" for name in _DUMPED))
    await secured.running.admin.send(calls.delete_token(token.id))
    await sql("UPDATE hosts SET last_seen_at = now() - interval '2 minutes'")
    new = Agent(tmp_path / "new", secured.base, await secured.join_token("kvm1", replace=True))
    new.name = "kvm1"
    async with new.running():
        pass
    assert await heartbeat(joined) == 401
    for name in _DUMPED:
        await sql(f"DELETE FROM {name}", f"INSERT INTO {name} SELECT * FROM dump_{name}")
    assert await heartbeat(joined) == 200, "the former machine"
    assert await heartbeat(new) == 401, "until it joins again"
    assert (await secured.running.client(token.token).send(calls.users())).items


async def test_dump_of_before_a_rotation_refuses_hosts_until_they_join_again(secured: Secured, joined: Agent) -> None:
    """Its tokens may be the ones that the rotation was about, so a certificate alone gets no others. The agent names the cure."""
    async with secured.running.core.db.transaction() as session:
        await session.execute(text("CREATE TABLE dump_hosts AS TABLE hosts"))
    await secured.running.admin.send(calls.rotate_tokens())
    former = joined.known.agent_token
    await joined.link._heartbeat()
    assert joined.known.agent_token != former
    async with secured.running.core.db.transaction() as session:
        await session.execute(text("DELETE FROM hosts"))
        await session.execute(text("INSERT INTO hosts SELECT * FROM dump_hosts"))
        await session.execute(text("UPDATE hosts SET last_seen_at = now() - interval '2 minutes'"))
    with pytest.raises(Refused):
        await joined.link._heartbeat()
    with pytest.raises(Refused, match=r"`nqr host token kvm1 --replace`.*already used"):
        await joined.link._register()
    Path(joined.link._join_token_file).write_text(await secured.join_token("kvm1", replace=True))
    await joined.link._register()
    await joined.link._heartbeat()
    assert (await secured.host(joined.known.host_id)).name == "kvm1", "the same host, with its VMs"

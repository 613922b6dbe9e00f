"""API tokens belong to users: what one can do after its owner is gone or demoted, and after its time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.auth import Role, Token, TokenCreate, TokenCreated, UserCreate, UserUpdate

PASSWORD = "a long password"


async def user(manager: Any, name: str, role: Role = Role.admin) -> tuple[Any, Any]:
    """(the user, a client that is signed in)."""
    made = await manager.admin.send(calls.create_user(UserCreate(username=name, password=PASSWORD, role=role)))
    client = manager.client()
    await client.login(name, PASSWORD)
    return made, client


async def refused(call: Any) -> Refused:
    with pytest.raises(Refused) as error:
        await call
    return error.value


async def listed(manager: Any, name: str) -> Token:
    (found,) = [one for one in (await manager.admin.send(calls.tokens())).items if one.name == name]
    return found


async def sql(manager: Any, statement: str) -> None:
    async with manager.core.db.transaction() as session:
        await session.execute(text(statement))


async def test_a_deleted_user_leaves_no_token_behind(manager: Any) -> None:
    """The attack: an administrator makes a token, is deleted, and goes on with it, or with one that it made."""
    mallory, client = await user(manager, "mallory")
    kept = await client.send(calls.create_token(TokenCreate(name="kept", role=Role.admin, ttl_seconds=0)))
    hidden = await manager.client(kept.token).send(calls.create_token(TokenCreate(name="hidden", role=Role.admin)))
    await manager.admin.send(calls.delete_user(mallory.id))
    for token in (kept.token, hidden.token):
        assert (await refused(manager.client(token).send(calls.list_vms()))).status == 401
    assert [one.name for one in (await manager.admin.send(calls.tokens())).items] == ["cli"]


async def test_demotion_lowers_tokens_and_promotion_does_not_raise_them(manager: Any) -> None:
    mallory, client = await user(manager, "mallory")
    token = (await client.send(calls.create_token(TokenCreate(name="kept", role=Role.admin)))).token
    holder = manager.client(token)
    await holder.send(calls.users())
    await manager.admin.send(calls.update_user(mallory.id, UserUpdate(role=Role.viewer)))
    assert (await refused(holder.send(calls.users()))).status == 403
    assert (await refused(holder.send(calls.scan_images()))).status == 403
    assert (await holder.send(calls.me())).role is Role.viewer
    assert (await listed(manager, "kept")).role is Role.viewer
    await manager.admin.send(calls.update_user(mallory.id, UserUpdate(role=Role.admin)))
    assert (await refused(holder.send(calls.users()))).status == 403, "a promotion is not for forgotten tokens"


async def test_a_token_never_has_a_higher_role_than_its_owner_whatever_its_row_says(manager: Any) -> None:
    _, client = await user(manager, "ann")
    token = (await client.send(calls.create_token(TokenCreate(name="t", role=Role.admin)))).token
    await sql(manager, "UPDATE users SET role = 'viewer' WHERE username = 'ann'")
    assert (await refused(manager.client(token).send(calls.users()))).status == 403


async def test_a_new_password_ends_sessions_and_keeps_tokens(manager: Any) -> None:
    ann, client = await user(manager, "ann")
    token = (await client.send(calls.create_token(TokenCreate(name="t")))).token
    await client.send(calls.change_password(PASSWORD, "another password"))
    await manager.client(token).send(calls.list_vms())
    await manager.admin.send(calls.update_user(ann.id, UserUpdate(password="yet another password")))
    assert (await refused(client.send(calls.me()))).status == 401
    await manager.client(token).send(calls.list_vms())


async def test_revoking_a_token_revokes_the_tokens_that_were_created_with_it(manager: Any) -> None:
    """The attack: a stolen token makes a second one before it is revoked."""
    stolen = await manager.admin.send(calls.create_token(TokenCreate(name="stolen", role=Role.admin)))
    second = await manager.client(stolen.token).send(calls.create_token(TokenCreate(name="second", role=Role.admin)))
    await manager.admin.send(calls.delete_token(stolen.id))
    assert (await refused(manager.client(second.token).send(calls.list_vms()))).status == 401


async def test_a_token_makes_none_that_outlives_it(manager: Any) -> None:
    short = await manager.admin.send(calls.create_token(TokenCreate(name="short", role=Role.admin, ttl_seconds=3600)))
    holder = manager.client(short.token)
    for seconds in (0, 7200):
        error = await refused(holder.send(calls.create_token(TokenCreate(name="long", ttl_seconds=seconds))))
        assert error.status == 422 and "outlive" in str(error)
    assert (await holder.send(calls.create_token(TokenCreate(name="same")))).expires_at == short.expires_at


@pytest.mark.parametrize(("ttl", "days"), [(None, 90), (30 * 86400, 30), (0, None)])
async def test_tokens_last_90_days_unless_said_otherwise(manager: Any, ttl: int | None, days: int | None) -> None:
    made: TokenCreated = await manager.admin.send(calls.create_token(TokenCreate(name="t", ttl_seconds=ttl)))
    if days is None:
        assert made.expires_at is None
    else:
        assert made.expires_at is not None
        assert abs(made.expires_at - datetime.now(timezone.utc) - timedelta(days=days)) < timedelta(minutes=1)


async def test_an_expired_token_is_refused_and_told_so(manager: Any, admin_password: str) -> None:
    made = await manager.admin.send(calls.create_token(TokenCreate(name="old")))
    session = manager.client()
    await session.login("admin", admin_password)
    await sql(manager, "UPDATE tokens SET expires_at = '2026-01-02 03:04Z' WHERE kind IN ('api', 'session')")
    error = await refused(manager.client(made.token).send(calls.list_vms()))
    assert (error.status, error.code) == (401, "NQR-API-141")
    assert str(error) == "The token old expired on 2026-01-02 03:04 UTC." and "nqr token create" in error.cure
    error = await refused(session.send(calls.list_vms()))
    assert (error.code, error.cure) == ("NQR-API-141", "Sign in again.")
    assert (await refused(manager.admin.send(calls.create_token(TokenCreate(name="t", ttl_seconds=59))))).status == 422


async def test_the_list_shows_owner_creator_expiry_and_last_use(manager: Any) -> None:
    _, client = await user(manager, "ann")
    made = await client.send(calls.create_token(TokenCreate(name="one")))
    await manager.admin.send(calls.create_token(TokenCreate(name="two", ttl_seconds=0)))
    await manager.client(made.token).send(calls.list_vms())
    one, two, cli = [await listed(manager, name) for name in ("one", "two", "cli")]
    assert (one.owner, one.created_by) == ("ann", "ann") and one.expires_at == made.expires_at and one.last_used_at
    assert (two.owner, two.created_by, two.expires_at, two.last_used_at) == ("", "token:cli", None, None)
    assert (cli.owner, cli.created_by) == ("", "installer")
    assert not any(made.token in page for page in (repr(one), repr(two)))

"""Checks the present rights of a sender. They can end while a request waits, so whoever gives rights to others looks again.

Changes of users, tokens and join tokens run one at a time. Otherwise, a token that is being revoked could have a child that the
revocation does not see.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.auth import Role
from nqrust.manager.clock import now
from nqrust.manager.core.principal import Principal, lower
from nqrust.manager.errors import NotAuthenticated, NotPermitted
from nqrust.manager.store.database import RIGHTS_LOCK
from nqrust.manager.store.tables import Host, Token, User

LOCK_TIMEOUT = "10s"
"""How long a change of rights waits for each of its locks (PostgreSQL manual, 20.11.1). A transaction that never ends, such as one
of an administrator's psql, would otherwise keep the connection of every such request, and soon all of the pool."""


def role_of(row: Token, owner: User | None) -> Role:
    """Return the role that a token has now: never more than its owner's."""
    if owner is None:
        return Role(row.role)
    return Role(owner.role) if row.kind == "session" else lower(Role(row.role), Role(owner.role))


async def current(session: AsyncSession, who: Principal, *, lock: bool = False) -> Principal | None:
    """Return a user or a token with its present role and proof. None: it is gone or expired.

    `lock`: nobody changes it before the end of the transaction.
    """
    how = {"read": True} if lock else None
    owner = await session.get(User, who.user_id, with_for_update=how) if who.user_id else None
    if owner is None and who.user_id:
        return None
    if who.token_id is None:
        return replace(who, role=Role(owner.role), proof=owner.password_hash) if owner else None
    row = await session.get(Token, who.token_id, with_for_update=how)
    if row is None or (row.expires_at is not None and row.expires_at <= now()):
        return None
    return replace(who, role=role_of(row, owner), proof=row.sha256)


async def one_at_a_time(session: AsyncSession) -> None:
    """Wait until no other transaction changes rights. Take this lock before rows are locked.

    The transaction raises DatabaseLocked if this lock, or a later one, is not free within LOCK_TIMEOUT.
    """
    await session.execute(select(func.set_config("lock_timeout", LOCK_TIMEOUT, True)))
    await session.execute(select(func.pg_advisory_xact_lock(RIGHTS_LOCK)))


async def hold(session: AsyncSession, who: Principal, role: Role = Role.admin) -> Principal:
    """Begin a change of rights: return the sender as it is now, which nobody changes before the end of the transaction.

    Raises NotAuthenticated (revoked meanwhile), NotPermitted (a lower role than `role` now).
    """
    await one_at_a_time(session)
    found = await current(session, who, lock=True)
    if found is None or found.proof != who.proof:
        raise ended()
    if not found.may(role):
        raise NotPermitted(f"This request needs the role {role.value}.")
    return found


def check_agent(host: Host, who: Principal) -> None:
    """Check that the agent's token and certificate are still those of this host, whose row is locked. Raises NotAuthenticated."""
    if host.identity != who.identity or who.proof not in (host.agent_token_sha256, host.next_agent_token_sha256):
        raise ended()


def ended() -> NotAuthenticated:
    return NotAuthenticated(
        "The rights of this sender ended while the request waited.", cure="Sign in again, or use a valid token."
    )

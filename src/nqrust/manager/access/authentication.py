"""Identifies the sender of a request, and signs users in and out."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.auth import PasswordChange, Role, Session
from nqrust.contract.credentials import hash_password, hash_token, new_token, verify_password
from nqrust.manager.access import rights
from nqrust.manager.clock import now
from nqrust.manager.core import credentials
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal
from nqrust.manager.core.source import Source
from nqrust.manager.errors import (
    Conflict,
    Invalid,
    NotAuthenticated,
    NotPermitted,
    Throttled,
    TokenExpired,
    WrongCredentials,
    WrongPassword,
)
from nqrust.manager.store import shares
from nqrust.manager.store.tables import Host, JoinToken, Token, User

SESSION_TTL = timedelta(hours=12)
_NEW_TOKEN = "Sign in again, or create a new token in the web UI under “Users and tokens”."
_USED_RESOLUTION = timedelta(minutes=1)
_BASIC_CACHE_SECONDS = 60.0
_NOBODY = hash_password("nobody has this password", salt=b"\0" * 16)


class BasicCache:
    """Remembers a verified password for a minute: scrypt costs 50 ms, and a browser sends many requests for a page."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Principal]] = {}
        self.cleared = 0
        """How often. A password that was right before may be wrong now."""

    def get(self, key: str) -> Principal | None:
        until, principal = self._known.get(key, (0.0, None))
        return principal if until > time.monotonic() else None

    def put(self, key: str, principal: Principal, cleared: int) -> None:
        """Remember a user, unless a change of users came since `cleared` was read."""
        if cleared != self.cleared:
            return
        if len(self._known) > 1000:
            self._known.clear()
        self._known[key] = (time.monotonic() + _BASIC_CACHE_SECONDS, principal)

    def clear(self) -> None:
        self._known.clear()
        self.cleared += 1


basic_cache = BasicCache()


async def authenticate(core: Core, authorization: str | None, source: Source) -> Principal:
    """Return the principal behind an Authorization header. Raises NotAuthenticated, WrongCredentials, Throttled."""
    sent = credentials.read(authorization)
    if sent.token:
        return await _bearer(core, sent.key)
    known = basic_cache.get(sent.key)
    principal = await _unchanged(core, known) if known else None
    if principal is None:
        cleared = basic_cache.cleared
        principal = await check_password(core, sent.username, sent.password, source)
        basic_cache.put(sent.key, principal, cleared)
    return principal


async def authenticate_again(core: Core, authorization: str | None, who: Principal) -> Principal:
    """Return the sender as it is now, after a wait. Costs one question and no password's hash.

    Raises NotAuthenticated, WrongCredentials.
    """
    sent = credentials.read(authorization)
    if sent.token:
        return await _bearer(core, sent.key)
    found = await _unchanged(core, who)
    if found is None:
        raise WrongCredentials()
    return found


async def _unchanged(core: Core, who: Principal) -> Principal | None:
    """Return a user whose password was verified, as it is now; None if it is gone or has another password now."""
    async with core.db.transaction() as session:
        found = await rights.current(session, who)
    return found if found is not None and found.proof == who.proof else None


async def _bearer(core: Core, digest: str) -> Principal:
    async with core.db.transaction() as session:
        found = (
            await session.execute(select(Token, User).outerjoin(User, User.id == Token.user_id).where(Token.sha256 == digest))
        ).first()
        if found is not None:
            return _of_token(found[0], found[1])
        query = select(Host).where(or_(Host.agent_token_sha256 == digest, Host.next_agent_token_sha256 == digest))
        host = await session.scalar(query)
        if host is not None and host.next_agent_token_sha256 == digest:
            await _begin_new_tokens(session, host, digest)
        if host is not None:
            return Principal("agent", f"agent:{host.name}", host_id=host.id, identity=host.identity, auth="agent", proof=digest)
        join = await session.scalar(select(JoinToken).where(JoinToken.sha256 == digest))
        if join is not None:
            name = join.host_name or join.name or join.id
            return Principal("join", f"join-token:{name}", join_id=join.id, token=name, auth="join-token")
    raise NotAuthenticated("The manager does not know this token.", cure=_NEW_TOKEN)


async def _begin_new_tokens(session: AsyncSession, host: Host, digest: str) -> None:
    """The agent has stored its new tokens, because it uses one of them. The former ones end."""
    await session.refresh(host, with_for_update=True)
    if host.next_agent_token_sha256 == digest and host.next_command_token is not None:
        host.agent_token_sha256, host.command_token = digest, host.next_command_token
        host.next_agent_token_sha256 = host.next_command_token = None


def _of_token(row: Token, owner: User | None) -> Principal:
    """Return the principal of a session or an API token, and note that it was used. Raises TokenExpired."""
    if row.expires_at is not None and row.expires_at <= now():
        raise TokenExpired(row.name, row.expires_at, session=row.kind == "session")
    if row.last_used_at is None or now() - row.last_used_at > _USED_RESOLUTION:
        row.last_used_at = now()
    username = owner.username if owner else ""
    common = Principal("user", row.name, rights.role_of(row, owner), row.user_id, row.id, username=username, proof=row.sha256)
    if row.kind == "session":
        return replace(common, auth="session")
    return replace(common, kind="token", name=f"token:{row.name}", token=row.name, auth="token")


async def still_may(core: Core, principal: Principal, role: Role) -> bool:
    """Return whether the principal's token or password is still valid and includes `role`. A rotation of its token ends nothing."""
    async with core.db.transaction() as session:
        found = await rights.current(session, principal)
    if found is None or (principal.token_id is None and found.proof != principal.proof):
        return False
    return found.may(role)


async def still_reads(core: Core, who: Principal) -> bool:
    """Return whether the sender of a request that is still being answered may do as much as when it began.

    New tokens of an agent end none of its downloads, and neither does its first certificate.
    """
    if who.kind == "agent":
        async with core.db.transaction() as session:
            host = await session.get(Host, who.host_id)
        return host is not None and who.identity in (0, host.identity)
    return who.role is not None and await still_may(core, who, who.role)


async def check_password(core: Core, username: str, password: str, source: Source) -> Principal:
    """Return the user with this password. Raises WrongCredentials, Throttled."""
    user = await _proven(core, username, password, source)
    role, proof = Role(user.role), user.password_hash
    return Principal("user", user.username, role, user.id, username=user.username, auth="password", proof=proof)


async def _proven(core: Core, username: str, password: str, source: Source) -> User:
    """Return the user with this password. A wrong one takes the same time whether or not the user exists."""
    async with core.guesses.turn(source):
        wait = core.guesses.wait(username, source)
        if wait > 0:
            raise Throttled(wait)
        async with core.hashing.turn(core.guesses.knows(username, source)):
            with shares.apart():
                async with core.db.transaction() as session:
                    user = await session.scalar(select(User).where(User.username == username))
            stored = user.password_hash if user is not None else _NOBODY
            right = await core.hashing.run(verify_password, password, stored)
        if user is None or not right:
            core.guesses.failed(username, source)
            raise WrongCredentials()
        core.guesses.succeeded(username, source)
    return user


async def sign_in(core: Core, username: str, password: str, source: Source) -> tuple[Session, Principal]:
    """Return a session token for the correct password, and its user."""
    principal = await check_password(core, username, password, source)
    _seldom(core, username)
    token = new_token()
    expires_at = now() + SESSION_TTL
    async with core.db.transaction() as session:
        # A new password ends all sessions. It must not miss this one, whose password was checked before.
        found = await rights.current(session, principal, lock=True)
        if found is None or found.role is None or found.proof != principal.proof:
            raise WrongCredentials()
        session.add(
            Token(
                id=str(uuid4()),
                kind="session",
                name=username,
                sha256=hash_token(token),
                role=found.role.value,
                user_id=principal.user_id,
                expires_at=expires_at,
            )
        )
        await session.execute(delete(Token).where(Token.kind == "session", Token.expires_at < now()))
    core.callers.learn(hash_token(token), found)
    return Session(token=token, expires_at=expires_at, username=username, role=found.role), found


def _seldom(core: Core, username: str) -> None:
    """Bound what a user adds to sessions and the audit log without any role. Raises Throttled."""
    wait = core.sign_ins.wait(username)
    if wait > 0:
        raise Throttled(wait)
    core.sign_ins.take(username)


async def sign_out(core: Core, principal: Principal) -> bool:
    """End the session of the token. Return whether there was one: an API token or a password is no session and stays valid."""
    basic_cache.clear()
    if principal.kind != "user" or not principal.token_id:
        return False
    async with core.db.transaction() as session:
        await session.execute(delete(Token).where(Token.id == principal.token_id))
    return True


async def change_password(core: Core, principal: Principal, wanted: PasswordChange, source: Source) -> None:
    """Change the user's own password. This session stays; all other sessions of the user end.

    Raises NotPermitted (an API token has no password), WrongPassword, Throttled, Invalid, Conflict.
    """
    if principal.kind != "user" or principal.user_id is None:
        raise NotPermitted("An API token has no password.", cure="Sign in with a user name and a password.")
    try:
        proven = await _proven(core, principal.name, wanted.current_password, source)
    except WrongCredentials as error:
        raise WrongPassword() from error
    _seldom(core, principal.name)
    if wanted.new_password == wanted.current_password:
        raise Invalid("The new password equals the current one.", cure="Choose another.")
    password_hash = await core.hashing.hash(wanted.new_password)
    async with core.db.transaction() as session:
        row = await session.get(User, principal.user_id, with_for_update=True)
        if row is None or row.password_hash != proven.password_hash:
            raise Conflict("Somebody else has changed the password.", cure="Sign in again.")
        row.password_hash = password_hash
        others = [
            Token.user_id == row.id,
            Token.kind == "session",
            *([Token.id != principal.token_id] if principal.token_id else []),
        ]
        await session.execute(delete(Token).where(*others))
    basic_cache.clear()


async def forget_expired(core: Core) -> None:
    """Delete expired tokens and join tokens."""
    async with core.db.transaction() as session:
        await session.execute(delete(Token).where(Token.expires_at < now() - timedelta(days=7)))
        await session.execute(
            delete(JoinToken).where(
                JoinToken.reusable.is_(False),
                or_(
                    JoinToken.expires_at < now() - timedelta(days=7),
                    JoinToken.used_at < now() - timedelta(days=7),
                ),
            )
        )

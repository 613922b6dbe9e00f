"""API tokens. Each belongs to the user who created it, and ends with that user."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.auth import TOKEN_DAYS, Role, TokenCreate, TokenCreated, TokenList
from nqrust.contract.auth import Token as ApiToken
from nqrust.contract.credentials import hash_token, new_token
from nqrust.manager.access import rights
from nqrust.manager.audit import about
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal, lower
from nqrust.manager.errors import Invalid, NotFound, NotPermitted
from nqrust.manager.store.tables import JoinToken, Token, User


async def list_tokens(core: Core) -> TokenList:
    async with core.db.reading() as session:
        rows = (
            await session.execute(
                select(Token, User)
                .outerjoin(User, User.id == Token.user_id)
                .where(Token.kind != "session")
                .order_by(Token.created_at)
            )
        ).all()
    return TokenList(items=[_token(row, owner) for row, owner in rows], total=len(rows))


async def create_token(core: Core, wanted: TokenCreate, creator: Principal) -> TokenCreated:
    """Create a token of the creator, or of the owner of the token that the creator used.

    Revoking that token revokes the new one too. Raises NotPermitted (a role above the creator's), NotAuthenticated, Invalid.
    """
    about(new=wanted.name)
    secret = new_token()
    async with core.db.transaction() as session:
        creator = await rights.hold(session, creator)
        if not creator.may(wanted.role):
            raise NotPermitted(f"A token with the role {wanted.role.value} has more rights than you.")
        parent = await session.get(Token, creator.token_id) if creator.kind == "token" else None
        owner = await session.get(User, creator.user_id) if creator.user_id else None
        row = Token(
            id=str(uuid4()),
            kind="api",
            name=wanted.name,
            sha256=hash_token(secret),
            role=wanted.role.value,
            user_id=creator.user_id,
            parent_id=parent.id if parent else None,
            created_by=creator.name,
            created_at=now(),
            expires_at=_expiry(wanted.ttl_seconds, parent),
        )
        session.add(row)
    return TokenCreated(token=secret, **_token(row, owner).model_dump())


def _expiry(ttl_seconds: int | None, parent: Token | None) -> datetime | None:
    """Return when the token expires. A stolen token must not create one that outlives it."""
    if ttl_seconds is not None and 0 < ttl_seconds < 60:
        raise Invalid("ttl_seconds: a token lasts at least 60 seconds.")
    latest = parent.expires_at if parent else None
    wanted = None if ttl_seconds == 0 else now() + timedelta(seconds=ttl_seconds or TOKEN_DAYS * 86400)
    if latest is None or (wanted is not None and wanted <= latest):
        return wanted
    if ttl_seconds is None:
        return latest
    raise Invalid(
        f"The new token would outlive the token that creates it, which expires on {latest:%Y-%m-%d %H:%M} UTC.",
        cure="Choose an earlier time, or sign in as a user.",
    )


async def delete_token(core: Core, token_id: str, who: Principal) -> None:
    """Revoke a token, and the tokens that were created with it."""
    async with core.db.transaction() as session:
        await rights.hold(session, who)
        row = await session.get(Token, token_id, with_for_update=True)
        if row is None:
            raise NotFound("There is no such token.")
        about(token_id=row.name)
        await _end_join_tokens(session, row)
        await session.delete(row)


async def _end_join_tokens(session: AsyncSession, row: Token) -> None:
    """End the join tokens that were created with a token, or with one that it created. They know its name only, so those of another
    token of that user and name end too."""
    family = select(Token.id, Token.name).where(Token.id == row.id).cte("family", recursive=True)
    family = family.union_all(select(Token.id, Token.name).where(Token.parent_id == family.c.id))
    names = [f"token:{name}" for name in await session.scalars(select(family.c.name))]
    owner = JoinToken.user_id.is_not_distinct_from(row.user_id)
    await session.execute(delete(JoinToken).where(JoinToken.reusable.is_(False), JoinToken.created_by.in_(names), owner))


async def lower_tokens(session: AsyncSession, user_id: str, role: Role) -> None:
    """Take rights above `role` from the API tokens and join tokens of a user. A later promotion does not return them."""
    if role is not Role.admin:
        await session.execute(delete(JoinToken).where(JoinToken.user_id == user_id))
    above = [one.value for one in Role if lower(one, role) is not one]
    await session.execute(update(Token).where(Token.user_id == user_id, Token.role.in_(above)).values(role=role.value))


def _token(row: Token, owner: User | None) -> ApiToken:
    return ApiToken(
        id=row.id,
        name=row.name,
        role=lower(Role(row.role), Role(owner.role)) if owner else Role(row.role),
        owner=owner.username if owner else "",
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )

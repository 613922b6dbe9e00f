"""Users, and the installer's bootstrap.json."""

from __future__ import annotations

from uuid import uuid4

import structlog
from pydantic import ValidationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.auth import Bootstrap, Role, UserCreate, UserList, UserUpdate
from nqrust.contract.auth import User as ApiUser
from nqrust.manager.access import rights
from nqrust.manager.access.authentication import basic_cache
from nqrust.manager.access.tokens import lower_tokens
from nqrust.manager.audit import about
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal
from nqrust.manager.errors import Conflict, NotFound, SettingsError
from nqrust.manager.store.tables import JoinToken, Token, User

log = structlog.get_logger("nqrust.manager.accounts")


def read_bootstrap(path: str) -> Bootstrap:
    """Read the installer's file. Raises SettingsError if it cannot be read or parsed."""
    try:
        with open(path, encoding="utf-8") as file:
            return Bootstrap.model_validate_json(file.read())
    except OSError as error:
        raise SettingsError(f"MANAGER_BOOTSTRAP_FILE {path} cannot be read: {error.strerror}.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise SettingsError(f"MANAGER_BOOTSTRAP_FILE {path} is not valid: {str(error).splitlines()[0]}.") from error


async def bootstrap(core: Core, wanted: Bootstrap) -> None:
    """Create the administrator if there is no user, and ensure tokens and join tokens at every start."""
    core.ui_key_sha256 = wanted.ui_key_sha256
    for known in wanted.tokens:
        core.callers.learn(known.sha256)
    async with core.db.transaction() as session:
        await rights.one_at_a_time(session)
        if not await session.scalar(select(func.count()).select_from(User)):
            session.add(
                User(
                    id=str(uuid4()),
                    username=wanted.admin_username,
                    password_hash=wanted.admin_password_hash,
                    role=Role.admin.value,
                )
            )
            log.info("administrator created", username=wanted.admin_username)
        names = [token.name for token in wanted.tokens]
        await session.execute(delete(Token).where(Token.kind == "bootstrap", Token.name.notin_(names)))
        for token in wanted.tokens:
            values = {"kind": "bootstrap", "name": token.name, "role": token.role.value, "created_by": "installer"}
            # The same row: its consoles stay open, and the tokens that it created stay too.
            await session.execute(
                update(Token)
                .where(Token.kind == "bootstrap", Token.name == token.name, Token.sha256 != token.sha256)
                .values(sha256=token.sha256)
            )
            await session.execute(
                insert(Token)
                .values(id=str(uuid4()), sha256=token.sha256, **values)
                .on_conflict_do_update(index_elements=["sha256"], set_=values)
            )
        join_names = [token.name for token in wanted.join_tokens]
        await session.execute(delete(JoinToken).where(JoinToken.reusable.is_(True), JoinToken.name.notin_(join_names)))
        for join in wanted.join_tokens:
            fields = {"sha256": join.sha256, "reusable": True, "host_name": join.host}
            await session.execute(
                insert(JoinToken)
                .values(id=str(uuid4()), name=join.name, created_by="installer", **fields)
                .on_conflict_do_update(index_elements=["name"], set_=fields)
            )


async def list_users(core: Core) -> UserList:
    async with core.db.reading() as session:
        rows = list(await session.scalars(select(User).order_by(User.username)))
    return UserList(items=[_user(row) for row in rows], total=len(rows))


async def get_user(core: Core, user_id: str) -> ApiUser | None:
    async with core.db.transaction() as session:
        row = await session.get(User, user_id)
    return _user(row) if row else None


async def create_user(core: Core, wanted: UserCreate, who: Principal) -> ApiUser:
    about(new=wanted.username)
    password_hash = await core.hashing.hash(wanted.password)
    row = User(
        id=str(uuid4()),
        username=wanted.username,
        password_hash=password_hash,
        role=wanted.role.value,
        created_at=now(),
    )
    try:
        async with core.db.transaction() as session:
            await rights.hold(session, who)
            session.add(row)
    except IntegrityError as error:
        raise Conflict(f"There is already a user named {wanted.username}.") from error
    return _user(row)


async def update_user(core: Core, user_id: str, change: UserUpdate, who: Principal) -> ApiUser:
    """Change a user. A new role applies to open sessions at once, and lowers API tokens. A new password ends the sessions."""
    password_hash = await core.hashing.hash(change.password) if change.password else None
    async with core.db.transaction() as session:
        admins, row = await _locked(session, user_id)
        await rights.hold(session, who)
        if row is None:
            raise NotFound("There is no such user.")
        about(user_id=row.username)
        if change.role is not None and change.role is not Role.admin and [a.id for a in admins] == [row.id]:
            raise Conflict(f"{row.username} is the last administrator.", cure="Create another administrator first.")
        if change.role is not None:
            row.role = change.role.value
            await lower_tokens(session, row.id, change.role)
        if password_hash is not None:
            row.password_hash = password_hash
            await session.execute(delete(Token).where(Token.user_id == row.id, Token.kind == "session"))
    basic_cache.clear()
    return _user(row)


async def delete_user(core: Core, user_id: str, who: Principal) -> None:
    """Delete the user with all its sessions, API tokens and join tokens, except the last administrator."""
    async with core.db.transaction() as session:
        admins, row = await _locked(session, user_id)
        await rights.hold(session, who)
        if row is None:
            raise NotFound("There is no such user.")
        about(user_id=row.username)
        if [admin.id for admin in admins] == [row.id]:
            raise Conflict(f"{row.username} is the last administrator.", cure="Create another administrator first.")
        await session.delete(row)
    basic_cache.clear()


async def _locked(session: AsyncSession, user_id: str) -> tuple[list[User], User | None]:
    """Return the administrators and one user. They are locked before the sender's own rows, which a change may also need."""
    await rights.one_at_a_time(session)
    admins = list(await session.scalars(select(User).where(User.role == "admin").with_for_update()))
    return admins, await session.get(User, user_id, with_for_update=True)


def _user(row: User) -> ApiUser:
    return ApiUser(id=row.id, username=row.username, role=Role(row.role), created_at=row.created_at)

"""Sign-in, users, API tokens."""

from __future__ import annotations

from fastapi import APIRouter, Request

from nqrust.contract.auth import (
    Login,
    PasswordChange,
    Role,
    Session,
    TokenCreate,
    TokenCreated,
    TokenList,
    User,
    UserCreate,
    UserList,
    UserUpdate,
)
from nqrust.manager.access import authentication as auth
from nqrust.manager.access import service as accounts
from nqrust.manager.access import tokens
from nqrust.manager.access.guards import Admin, CoreDep, Viewer
from nqrust.manager.audit import about

router = APIRouter(prefix="/v1")


@router.post("/auth/login", tags=["auth"])
async def login(core: CoreDep, request: Request, body: Login) -> Session:
    """Return a session token for a username and password."""
    about(new=body.username)
    request.state.claimed = f"sign-in:{body.username}"
    session, request.state.principal = await auth.sign_in(core, body.username, body.password, request.state.origin)
    return session


@router.post("/auth/logout", status_code=204, tags=["auth"])
async def logout(core: CoreDep, principal: Viewer, request: Request) -> None:
    """End this session."""
    request.state.changes_nothing = not await auth.sign_out(core, principal)


@router.get("/auth/me", tags=["auth"])
async def me(core: CoreDep, principal: Viewer) -> User:
    """Return the owner of these credentials."""
    known = await accounts.get_user(core, principal.user_id) if principal.user_id and principal.kind == "user" else None
    role = principal.role or Role.viewer
    return known or User(id=principal.token_id or "", username=principal.name, role=role, created_at=core.started_at)


@router.put("/auth/password", status_code=204, tags=["auth"])
async def change_password(core: CoreDep, principal: Viewer, request: Request, body: PasswordChange) -> None:
    """Change your own password. This session stays; all your other sessions end."""
    await auth.change_password(core, principal, body, request.state.origin)


@router.get("/users", tags=["users"])
async def list_users(core: CoreDep, _: Admin) -> UserList:
    return await accounts.list_users(core)


@router.post("/users", status_code=201, tags=["users"])
async def create_user(core: CoreDep, who: Admin, body: UserCreate) -> User:
    return await accounts.create_user(core, body, who)


@router.patch("/users/{user_id}", tags=["users"])
async def update_user(core: CoreDep, who: Admin, user_id: str, body: UserUpdate) -> User:
    """Change the role or the password. A lower role lowers the user's tokens; a new password ends the user's sessions."""
    return await accounts.update_user(core, user_id, body, who)


@router.delete("/users/{user_id}", status_code=204, tags=["users"])
async def delete_user(core: CoreDep, who: Admin, user_id: str) -> None:
    """Delete the user with its sessions and tokens. The last administrator cannot be deleted."""
    await accounts.delete_user(core, user_id, who)


@router.get("/tokens", tags=["tokens"])
async def list_tokens(core: CoreDep, _: Admin) -> TokenList:
    return await tokens.list_tokens(core)


@router.post("/tokens", status_code=201, tags=["tokens"])
async def create_token(core: CoreDep, who: Admin, body: TokenCreate) -> TokenCreated:
    """Create a token. Only this answer contains the token itself. It belongs to the user who creates it."""
    return await tokens.create_token(core, body, who)


@router.delete("/tokens/{token_id}", status_code=204, tags=["tokens"])
async def delete_token(core: CoreDep, who: Admin, token_id: str) -> None:
    await tokens.delete_token(core, token_id, who)

"""Users, roles, tokens, sign-in."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, Field

from nqrust.contract.text import PRINTABLE


class Role(str, Enum):
    """Permissions of a user. Each role includes those after it."""

    admin = "admin"  # everything, users and tokens included
    operator = "operator"  # VMs, images, hosts
    viewer = "viewer"  # read only


_SECRET = r"nqr_[A-Za-z0-9_-]{1,128}"
Secret = Annotated[str, Field(pattern=f"^{_SECRET}$")]
JoinSecret = Annotated[str, Field(pattern=rf"^{_SECRET}(\.[0-9a-f]{{64}})?$")]
"""Tokens in answers of a manager. People paste them as root, and a shell sees one word in each."""


class Login(BaseModel):
    username: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=256)


class Session(BaseModel):
    """A bearer token for the API, valid until `expires_at` (UTC)."""

    token: Secret
    expires_at: datetime
    username: str
    role: Role


class User(BaseModel):
    id: str
    username: str
    role: Role
    created_at: datetime


class UserCreate(BaseModel):
    username: str = Field(min_length=1, max_length=64, pattern=r"^[a-z_][a-z0-9_.-]*$")
    password: str = Field(min_length=12, max_length=256)
    role: Role = Role.viewer


TOKEN_DAYS = 90
"""Lifetime of an API token, unless its creator chooses another one."""


class Token(BaseModel):
    """An API token as listed; the secret itself is shown once, at creation. It never has more rights than its owner."""

    id: str
    name: str
    role: Role
    owner: str = Field(default="", description="user with whom the token ends; empty for tokens of the installation")
    created_by: str = Field(default="", description="user or token:NAME that created it")
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class TokenCreate(BaseModel):
    name: str = Field(min_length=1, max_length=64, pattern=PRINTABLE)
    role: Role = Role.viewer
    ttl_seconds: int | None = Field(
        default=None,
        ge=0,
        le=100 * 365 * 86400,
        description=f"lifetime; absent: {TOKEN_DAYS} days, 0: never expires",
    )


class TokenCreated(Token):
    token: Secret


class JoinTokenCreate(BaseModel):
    """A join token lets the agent of `host` register, once, within `ttl_seconds`. It ends earlier join tokens of that name."""

    host: str = Field(min_length=1, max_length=253, description="name of the host")
    replace: bool = Field(default=False, description="the new agent takes over the name and the record of an existing host")
    ttl_seconds: int = Field(default=3600, ge=60, le=7 * 86400)


class JoinToken(BaseModel):
    token: JoinSecret
    host: str
    replace: bool = False
    expires_at: datetime


class BootstrapToken(BaseModel):
    name: str
    sha256: str
    role: Role = Role.admin


class BootstrapJoinToken(BaseModel):
    """A join token from the installer for the agent of the same machine: reusable, accepted from this machine only.

    `host`: the name for which it is valid; None: any name.
    """

    name: str
    sha256: str
    host: str | None = None


class Bootstrap(BaseModel):
    """`bootstrap.json`: accounts and tokens that the manager ensures at every start. Holds hashes only, never a secret.

    The administrator is created only while the database has no user, so a later password change is not reset.
    """

    admin_username: str = "admin"
    admin_password_hash: str
    tokens: list[BootstrapToken] = []
    join_tokens: list[BootstrapJoinToken] = []
    ui_key_sha256: str = Field(default="", description="of the key with which the web UI names the address of its users")


class UserUpdate(BaseModel):
    """Only the given fields change. A new password ends all sessions of the user."""

    password: str | None = Field(default=None, min_length=12, max_length=256)
    role: Role | None = None


class PasswordChange(BaseModel):
    """A change of the user's own password. The current session stays; all others of the user end."""

    current_password: str = Field(min_length=1, max_length=256)
    new_password: str = Field(min_length=12, max_length=256)


class UserList(BaseModel):
    items: list[User]
    total: int


class TokenList(BaseModel):
    items: list[Token]
    total: int

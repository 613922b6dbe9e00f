"""The authenticated sender of a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nqrust.contract.auth import Role

_RANK = {Role.viewer: 1, Role.operator: 2, Role.admin: 3}


@dataclass(frozen=True)
class Principal:
    """`kind`: a `user` (session or password), an API `token`, an `agent`, or a `join` token.

    The last two have no role: an agent may use its own host's routes only, a join token registration only. `user_id`,
    `username`: the user, or the owner of the token. `token`: name of the token. `auth`: how the sender authenticated.
    `identity` of an agent: see the table of hosts. `proof`: hash of the token, or the stored hash of the password. A change of
    it means that the credentials are no longer valid.
    """

    kind: Literal["user", "token", "agent", "join"]
    name: str
    role: Role | None = None
    user_id: str | None = None
    token_id: str | None = None
    host_id: str | None = None
    identity: int = 0
    join_id: str | None = None
    username: str = ""
    token: str = ""
    auth: str = ""
    proof: str = field(default="", repr=False)

    @property
    def account(self) -> str:
        """Return the id of the user, or of the API token. Another token can have the same name."""
        return f"{self.kind} {self.user_id if self.kind == 'user' else self.token_id}"

    @property
    def owner(self) -> str:
        """Return the user with all sessions and tokens, for what a user has a share of; a token of the installation is one, too."""
        return f"user {self.user_id}" if self.user_id else f"{self.kind} {self.token_id or self.name}"

    def may(self, role: Role) -> bool:
        """Return whether this principal's role includes `role`."""
        return self.role is not None and _RANK[self.role] >= _RANK[role]


def lower(one: Role, other: Role) -> Role:
    """Return the role with fewer rights."""
    return min(one, other, key=_RANK.__getitem__)

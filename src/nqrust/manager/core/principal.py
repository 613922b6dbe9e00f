"""The authenticated sender of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nqrust.contract.auth import Role

_RANK = {Role.viewer: 1, Role.operator: 2, Role.admin: 3}


@dataclass(frozen=True)
class Principal:
    """`kind`: a `user` (session or password), an API `token`, an `agent`, or a `join` token.

    The last two have no role: an agent may use its own host's routes only, a join token registration only.
    """

    kind: Literal["user", "token", "agent", "join"]
    name: str
    role: Role | None = None
    user_id: str | None = None
    token_id: str | None = None
    host_id: str | None = None
    join_id: str | None = None

    def may(self, role: Role) -> bool:
        """Return whether this principal's role includes `role`."""
        return self.role is not None and _RANK[self.role] >= _RANK[role]

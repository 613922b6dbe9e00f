"""Required permissions of routes. Every route has exactly one guard; a test checks all routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from nqrust.contract.auth import Role
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal
from nqrust.manager.errors import NotPermitted


def core_of(connection: HTTPConnection) -> Core:
    return cast(Core, connection.state.core)


CoreDep = Annotated[Core, Depends(core_of)]


def principal_of(connection: HTTPConnection) -> Principal:
    principal = connection.state.principal
    if principal is None:
        raise NotPermitted("This request needs credentials.")
    return cast(Principal, principal)


def needs(role: Role, agents: bool = False) -> Any:
    """Return a dependency that requires a user or token whose role includes `role`. `agents` also admits any host's agent."""

    def check(request: Request) -> Principal:
        principal = principal_of(request)
        if principal.may(role) or (agents and principal.kind == "agent"):
            return principal
        raise NotPermitted(f"This request needs the role {role.value}.")

    return Annotated[Principal, Depends(_named(check, f"needs_{role.value}"))]


def own_host(request: Request, host_id: str) -> Principal:
    """Admit an agent to the routes of its own host."""
    principal = principal_of(request)
    if principal.kind != "agent" or principal.host_id != host_id:
        raise NotPermitted("Only this host's own agent can send this request.", cure="Use the agent's own token.")
    return principal


def joining(request: Request) -> Principal:
    """Admit a join token, or an agent that registers again."""
    principal = principal_of(request)
    if principal.kind not in ("join", "agent"):
        raise NotPermitted("Only agents can register.", cure="Use a join token (`nqr host token NAME`).")
    return principal


def _named(check: Callable[..., Principal], name: str) -> Callable[..., Principal]:
    check.__name__ = name
    return check


Viewer = needs(Role.viewer)
OperatorOrAgent = needs(Role.operator, agents=True)
Operator = needs(Role.operator)
Admin = needs(Role.admin)
OwnHost = Annotated[Principal, Depends(own_host)]
Joining = Annotated[Principal, Depends(joining)]

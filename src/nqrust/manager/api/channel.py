"""Checks the kind of connection: plain HTTP is for loopback, and from other machines only for agents without a certificate.

Over TLS, an agent with a certificate has to show it; the token is the second check. On loopback, root's program is the agent of this
machine. A reverse proxy connects from there for anybody.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nqrust.contract.problem import MEDIA_TYPE
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal
from nqrust.manager.errors import NotAuthenticated, NotEncrypted
from nqrust.serving import plain, sources
from nqrust.tls.contexts import agent_name

_PAST_THE_PROXY = "Connect the agent to the manager's own port. On the manager's machine, run it as root."
_AGENTS = ("/v1/hosts/", "/v1/images/")


def may_be_plain(scope: Scope) -> bool:
    """Return whether this plain request from elsewhere may come from an agent of before. `check` then asks for its token."""
    path = str(scope["path"])
    return scope["type"] == "http" and path.startswith(_AGENTS) and path != "/v1/hosts/join-tokens"


def check(core: Core, scope: Scope, principal: Principal) -> None:
    """Check that this sender may use this kind of connection. Raises NotEncrypted, NotAuthenticated."""
    if core.trust is None:
        return
    if scope["scheme"] in ("http", "ws"):
        agent_of_before = principal.kind == "agent" and not principal.identity
        user_behind_a_proxy = core.settings.plain_http and principal.kind in ("user", "token")
        if not (plain.on_loopback(scope) or agent_of_before or user_behind_a_proxy):
            raise NotEncrypted()
        if principal.kind in ("agent", "join") and not agent_of_before and not sources.is_roots(scope):
            raise NotEncrypted("The manager answers agents that come through a proxy over TLS only.", cure=_PAST_THE_PROXY)
        return
    shown: tuple[str, ...] = scope.get("state", {}).get("peer_names", ())
    if principal.kind == "agent" and principal.identity and agent_name(f"{principal.host_id}-{principal.identity}") not in shown:
        if scope["path"] == f"/v1/hosts/{principal.host_id}/certificate":
            # The route asks for a proof instead: hosts/certificates.py.
            scope["state"]["without_certificate"] = True
            return
        raise NotAuthenticated("This agent's certificate is missing, or replaced by a newer one.")


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Send browsers on to https, and refuse the rest."""
    headers = dict(scope["headers"])
    if scope["method"] in ("GET", "HEAD") and b"authorization" not in headers and headers.get(b"host"):
        await plain.send_on(scope, receive, send)
        return
    error = NotEncrypted()
    answer = Response(error.problem().model_dump_json(), error.status, error.headers, MEDIA_TYPE)
    await answer(scope, receive, send)

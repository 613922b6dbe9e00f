"""API tokens and join tokens of the manager in memory."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from fastapi import Depends, FastAPI

from nqrust.contract import auth
from tests.browser.world import Refusal, World, now

Check = Callable[..., Any]


def serve(app: FastAPI, world: Callable[[], World], operator: Check, admin: Check) -> None:
    @app.post("/v1/hosts/join-tokens", dependencies=[Depends(operator)])
    async def join_token(wanted: auth.JoinTokenCreate) -> auth.JoinToken:
        if wanted.host in {host.name for host in world().hosts.values()} and not wanted.replace:
            raise Refusal(409, "conflict", f"There is already a host named {wanted.host}.", "NQR-API-142", "Use another name.")
        secret = "nqr_join_" + secrets.token_urlsafe(24)
        return auth.JoinToken(token=secret, host=wanted.host, replace=wanted.replace, expires_at=now() + timedelta(hours=1))

    @app.get("/v1/tokens", dependencies=[Depends(admin)])
    async def list_tokens() -> auth.TokenList:
        return auth.TokenList(items=world().tokens, total=len(world().tokens))

    @app.post("/v1/tokens", dependencies=[Depends(admin)], status_code=201)
    async def create_token(wanted: auth.TokenCreate, user: tuple[str, auth.Role] = Depends(admin)) -> auth.TokenCreated:
        seconds = auth.TOKEN_DAYS * 86400 if wanted.ttl_seconds is None else wanted.ttl_seconds
        made = auth.TokenCreated(
            id=str(uuid.uuid4()), name=wanted.name, role=wanted.role, created_at=now(), token="nqr_" + secrets.token_urlsafe(32),
            owner=user[0], created_by=user[0], expires_at=now() + timedelta(seconds=seconds) if seconds else None,
        )  # fmt: skip
        world().tokens.append(auth.Token(**made.model_dump(exclude={"token"})))
        return made

    @app.delete("/v1/tokens/{token_id}", dependencies=[Depends(admin)], status_code=204)
    async def delete_token(token_id: str) -> None:
        world().tokens = [token for token in world().tokens if token.id != token_id]

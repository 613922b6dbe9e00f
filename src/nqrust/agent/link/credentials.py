"""Secrets of the agent: those from the manager, and the token for root of this host."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ValidationError

from nqrust.contract.credentials import hash_token, new_token
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host
from nqrust.host.secret import Secret


class Identity(BaseModel, frozen=True):
    """This agent's certificate with its key, and the authorities that it trusts, all PEM. `ends`: of the certificate."""

    certificate: str
    key: str
    authority: str
    ends: datetime


class Credentials(BaseModel):
    """From the manager, at registration with a join token. The agent authenticates with `agent_token`.

    The manager authenticates with `command_token`; only its hash is kept. After a rotation the former one is accepted too,
    until the heartbeat after the one that made the manager use the new one.
    """

    host_id: str
    manager: str
    agent_token: str
    command_token_sha256: str
    former_command_token_sha256: str = ""
    heartbeat_seconds: int = 15
    identity: Identity | None = None


class CredentialStore:
    def __init__(self, host: Host, path: str) -> None:
        self._host, self._path = host, path
        self.current = self._read()

    def save(self, credentials: Credentials) -> None:
        self._host.write_file(self._path, Secret(credentials.model_dump_json(indent=1)), mode=0o600)
        self.current = credentials

    def command_hashes(self) -> tuple[str, ...]:
        """Return the hashes of the tokens with which the manager may come."""
        current = self.current
        return (current.command_token_sha256, current.former_command_token_sha256) if current else ()

    def _read(self) -> Credentials | None:
        try:
            return Credentials.model_validate_json(self._host.read_bytes(self._path))
        except (HostError, ValidationError):
            return None


def local_token_hash(host: Host, path: str) -> str:
    """Return the hash of the token in `path` (0600 root). The token is created if missing."""
    try:
        token = host.read_text(path).strip()
    except PathMissing:
        token = ""
    if not token:
        token = new_token()
        host.write_file(path, Secret(token + "\n"), mode=0o600)
    return hash_token(token)

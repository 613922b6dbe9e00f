"""Secrets of the agent: what the manager gave it, and the token with which root of this host may speak to it."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from nqrust.contract.credentials import hash_token, new_token
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host
from nqrust.host.secret import Secret


class Credentials(BaseModel):
    """From the manager, at registration with a join token. `agent_token` is ours towards it; of `command_token`, its
    own towards us, only the hash is kept."""

    host_id: str
    manager: str
    agent_token: str
    command_token_sha256: str
    heartbeat_seconds: int = 15


class CredentialStore:
    def __init__(self, host: Host, path: str) -> None:
        self._host, self._path = host, path
        self.current = self._read()

    def save(self, credentials: Credentials) -> None:
        self._host.write_file(self._path, Secret(credentials.model_dump_json(indent=1)), mode=0o600)
        self.current = credentials

    def _read(self) -> Credentials | None:
        try:
            return Credentials.model_validate_json(self._host.read_bytes(self._path))
        except (HostError, ValidationError):
            return None


def local_token_hash(host: Host, path: str) -> str:
    """Hash of the token in `path` (0600 root), which is made when it is not there."""
    try:
        token = host.read_text(path).strip()
    except PathMissing:
        token = ""
    if not token:
        token = new_token()
        host.write_file(path, Secret(token + "\n"), mode=0o600)
    return hash_token(token)

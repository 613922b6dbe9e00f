"""How this host talks with its manager: plain HTTP on the same machine, otherwise TLS with the authority of the installation.

A host from before the authority continues with plain HTTP until the manager has proven its authority.
"""

from __future__ import annotations

import secrets
import ssl
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import httpx

from nqrust.agent.link.credentials import CredentialStore, Identity
from nqrust.serving import plain
from nqrust.tls import contexts, pinning
from nqrust.tls.pieces import Coarse
from nqrust.tls.transports import BlockingNamedTransport, NamedTransport, guard

RENEW_BEFORE = timedelta(days=30)
_TIMEOUT = httpx.Timeout(10.0, connect=3.0)


class Channel:
    """`base`: the manager's address from the settings. The rest follows from the credentials."""

    def __init__(self, base: str, credentials: CredentialStore) -> None:
        self._base, self._credentials = base, credentials
        self._pinned = ""
        self._client: tuple[object, httpx.AsyncClient] | None = None
        self._server: tuple[Identity, ssl.SSLContext] | None = None
        self._told: tuple[Identity, dict[str, str]] | None = None
        host = urlsplit(base).hostname or ""
        self.local = host == "localhost" or plain.is_loopback(host)

    @property
    def authority(self) -> str:
        """The authority that the manager must prove. Empty: none is known."""
        identity = self.identity
        return self._pinned or (identity.authority if identity else "")

    @property
    def identity(self) -> Identity | None:
        current = self._credentials.current
        return current.identity if current else None

    @property
    def secured(self) -> bool:
        return bool(self.authority) and not self.local

    @property
    def base(self) -> str:
        return pinning.secured(self._base) if self.secured else self._base

    # --- as a client of the manager
    def client(self) -> httpx.AsyncClient:
        """Return the client for now. It changes with the credentials, and the former one is left to its last requests."""
        key = (self.base, self.authority, self._pinned, self.identity)
        if self._client is None or self._client[0] != key:
            transport = Coarse(NamedTransport(contexts.MANAGER_NAME, self._context())) if self.secured else None
            client = httpx.AsyncClient(base_url=self.base, timeout=_TIMEOUT, transport=transport, trust_env=False)
            guard(client)
            self._client = (key, client)
        return self._client[1]

    def blocking_client(self, timeout: httpx.Timeout) -> httpx.Client:
        """Return a client of its own for one download."""
        transport = BlockingNamedTransport(contexts.MANAGER_NAME, self._context()) if self.secured else None
        client = httpx.Client(base_url=self.base, timeout=timeout, transport=transport, trust_env=False)
        guard(client)
        return client

    async def close(self) -> None:
        if self._client is not None:
            await self._client[1].aclose()
            self._client = None

    def _context(self) -> ssl.SSLContext:
        identity = self.identity
        if identity is None or self._pinned:  # a manager with another authority would refuse the certificate
            return contexts.client(self.authority)
        return contexts.client(self.authority, identity.certificate, identity.key)

    # --- the first contact
    async def pin(self, fingerprint: str) -> None:
        """Get to know the authority that a join token names. Raises pinning.PinningError, httpx.HTTPError."""
        if not self.local:
            self._pinned = await pinning.fetch(self._base, expected=fingerprint)

    async def ask_for_authority(self, *, again: bool = False) -> bool:
        """Get to know the authority of a manager that knows this host from before. False: the manager has none. `again`: the
        known one is outdated.

        Raises pinning.PinningError if the one who answers over TLS is not that manager.
        """
        current = self._credentials.current
        if current is None or self.local or (self.authority and not again):
            return self.secured
        nonce = secrets.token_hex(16)
        keys = [key for key in self._credentials.command_hashes() if key]  # two, if the manager has yet to use the new one
        for key in keys:
            try:
                self._pinned = await pinning.fetch(self._base, host_id=current.host_id, nonce=nonce, key=key)
                return True
            except httpx.HTTPError:
                return False  # nobody speaks TLS there
            except pinning.PinningError:
                if key == keys[-1]:
                    raise
        return False

    def is_outdated(self) -> bool:
        """Return whether the authority just proven is another one, or this host's certificate is not valid now: it has ended, or
        the manager signed it while its clock was ahead."""
        from nqrust.tls import authority  # needed after a failure only; `cryptography` takes 8 MiB

        identity = self.identity
        if identity is None:
            return False
        known = pinning.certificates(self._pinned) == pinning.certificates(identity.authority)
        return not known or not authority.begins_at(identity.certificate) <= datetime.now(timezone.utc) <= identity.ends

    @staticmethod
    def may_be_outdated(error: httpx.TransportError) -> bool:
        """Return whether one end may have refused the other's certificate. A TLS 1.3 server refuses it after the handshake, so
        the client sees an answer that breaks off."""
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, ssl.SSLError):
                return True
            seen = seen.__cause__ or seen.__context__
        return isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError))

    def forget_pin(self) -> None:
        """The authority stands in the credentials from now on."""
        self._pinned = ""

    # --- as a server
    def reached_at(self, url: str) -> str:
        """Return this agent's own address for the manager: https where this agent answers over TLS only."""
        if plain.is_loopback(urlsplit(url).hostname or "") or not (self.secured or self.identity):
            return url
        return pinning.secured(url)

    def server_context(self) -> ssl.SSLContext | None:
        """Return the context for connections to this agent. None: it has no certificate yet."""
        identity = self.identity
        if identity is None:
            return None
        if self._server is None or self._server[0] != identity:
            self._server = (identity, contexts.server(identity.certificate, identity.key, identity.authority))
        return self._server[1]

    def told(self) -> dict[str, str]:
        """Return what a heartbeat tells of this host's certificate."""
        identity = self.identity
        if identity is None:
            return {}
        if self._told is None or self._told[0] != identity:
            found = {
                "certificate": pinning.fingerprint(identity.certificate),
                "authority": pinning.fingerprint(identity.authority),
            }
            self._told = (identity, found)
        return self._told[1]

    def renewal_due(self) -> bool:
        identity = self.identity
        return identity is not None and identity.ends - datetime.now(timezone.utc) < RENEW_BEFORE

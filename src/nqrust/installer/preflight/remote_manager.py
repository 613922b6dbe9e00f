"""Questions to a manager on another machine. A secret goes to it only once it has proven the installation's authority."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from nqrust.contract.paths import AGENT_CREDENTIALS
from nqrust.host.errors import HostError, NotTrusted
from nqrust.host.port import Host, Tls
from nqrust.host.secret import Secret
from nqrust.tls import pinning
from nqrust.tls.contexts import MANAGER_NAME

_TIMEOUT = 8.0


class NotProven(Exception):
    """Another program answers at the manager's address."""


@dataclass(frozen=True)
class RemoteManager:
    """`base`: its address, from the settings."""

    host: Host
    base: str

    def health(self) -> tuple[int, bytes, bool]:
        """Return the answer to /health, and whether it came over TLS. Plain HTTP is for managers without TLS. Raises HostError."""
        if not self._local():
            try:
                return (*self.host.http_get(f"{pinning.secured(self.base)}/health", timeout=_TIMEOUT, tls=Tls()), True)
            except HostError:
                if self.base.startswith("https://"):
                    raise
        return (*self.host.http_get(f"{self.base}/health", timeout=_TIMEOUT), False)

    def _local(self) -> bool:
        return urlsplit(self.base).hostname in ("localhost", "127.0.0.1", "::1")

    def ask(self, path: str, token: Secret) -> tuple[int, bytes]:
        """Return the answer to a GET with a token of this host: a join token, or an agent's.

        Raises NotProven, HostError.
        """
        secret, fingerprint = pinning.split(token.reveal())
        authority = self._authority(fingerprint)
        headers = {"Authorization": Secret(f"Bearer {secret}")}
        if authority is None:
            return self.host.http_get(f"{self.base}{path}", headers=headers, timeout=_TIMEOUT)
        tls = Tls(authority, MANAGER_NAME)
        try:
            return self.host.http_get(f"{pinning.secured(self.base)}{path}", headers=headers, timeout=_TIMEOUT, tls=tls)
        except NotTrusted as error:
            raise NotProven(f"{self.base} does not prove the authority of the manager") from error

    def _authority(self, fingerprint: str) -> str | None:
        """Return the authority that the token names, or that the agent of this host knows. None: neither names one."""
        if self._local():
            return None
        if not fingerprint:
            return self._known()
        status, body = self.host.http_get(f"{pinning.secured(self.base)}{pinning.PATH}", timeout=_TIMEOUT, tls=Tls())
        try:
            certificate = pinning.named(str(json.loads(body)["certificate"]), fingerprint)
            if status == 200 and certificate is not None:
                return certificate
        except (ValueError, KeyError, TypeError, pinning.PinningError):
            pass
        raise NotProven(f"{self.base} is not the manager that made this join token")

    def _known(self) -> str | None:
        try:
            identity = json.loads(self.host.read_text(AGENT_CREDENTIALS)).get("identity") or {}
            return str(identity["authority"])
        except (HostError, ValueError, KeyError, AttributeError):
            return None

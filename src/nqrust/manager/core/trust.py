"""The manager's certificates: its own, those it signs for agents, and the web UI's.

The installer makes the authority. Everything else is issued here and renewed in time, without a restart.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import psutil
import structlog

from nqrust.client.agent import Tls
from nqrust.loopback import is_loopback
from nqrust.manager.errors import Invalid, SettingsError
from nqrust.manager.settings import TlsFiles
from nqrust.manager.store.tables import Host
from nqrust.tls import authority, contexts, pinning
from nqrust.tls.authority import Authority, CertificateError, Pair

log = structlog.get_logger("nqrust.manager")

RENEW_BEFORE = timedelta(days=30)
LOOK_EVERY = 60.0
"""Seconds between looks whether the certificate is valid now. The clock can be set back or forward at any time."""
RENEW_EVERY = 3600.0
"""Seconds between looks at all else. An address that this machine gets is in the certificate an hour later."""
SHARED = 0o640


def identity_of(host: Host) -> str:
    """Return the name in the certificate of a host's agent. Each join makes a new one, which revokes the former."""
    return contexts.agent_name(f"{host.id}-{host.identity}")


@dataclass(frozen=True)
class _Issued:
    pair: Pair
    names: tuple[str, ...]

    def good(self, names: tuple[str, ...]) -> bool:
        return self.names == names and self.valid(RENEW_BEFORE)

    def valid(self, left: timedelta = timedelta()) -> bool:
        """Return whether it has begun, and ends in more than `left`."""
        begins, ends = authority.begins_at(self.pair.certificate), authority.expires_at(self.pair.certificate)
        return begins <= (now := datetime.now(timezone.utc)) and ends - now > left


class Trust:
    """Reads the files of the installer. Raises SettingsError if they are missing, unreadable, or do not belong together."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._texts = self._read()
        self._take(*self._signing(*self._texts))

    def _read(self) -> tuple[str, str]:
        return _read(self._files.authority), _read(self._files.authority_key)

    def _signing(self, bundle: str, key: str) -> tuple[Authority, str]:
        """Return the authority that signs, and all trusted ones. During a rotation there are two, and the key says which signs.

        Raises SettingsError.
        """
        error: Exception | None = None
        try:
            found = pinning.certificates(bundle)
            for one in found or (bundle,):
                try:
                    return Authority(Pair(one, key)), "".join(found)
                except CertificateError as refused:
                    error = refused
        except pinning.PinningError as unreadable:
            error = unreadable
        raise SettingsError(f"{self._files.authority} cannot be used: {error}.") from error

    def _take(self, signing: Authority, bundle: str) -> None:
        """Use these authorities for new connections. Existing ones stay."""
        names = _names()
        pair = self._pair(signing, [contexts.MANAGER_NAME, *names])
        shown = self._own() or (pair.certificate, pair.key)
        inner = contexts.server(pair.certificate, pair.key, bundle)
        outer = contexts.server(*shown, bundle)
        outer.sni_callback = self._choose
        agents = contexts.client(bundle, pair.certificate, pair.key)
        self._authority, self._issued = signing, _Issued(pair, names)
        self._inner, self._outer, self._agents = inner, outer, agents
        self.trusted = bundle
        """The authorities that agents trust."""
        self.signing = signing.certificate
        self.fingerprint, self.signer = pinning.fingerprint(bundle), pinning.fingerprint(signing.certificate)
        self._publish()

    def reload(self) -> bool:
        """Read the installer's files again. Return whether they have changed. Raises SettingsError, once for each content that
        cannot be used."""
        texts = self._read()
        if texts == self._texts:
            return False
        self._texts = texts
        signing, bundle = self._signing(*texts)
        self._take(signing, bundle)
        log.info("authorities read again", trusted=len(pinning.certificates(bundle)), signer=self.signer)
        return True

    def context(self) -> ssl.SSLContext:
        """Return the context for connections to the manager. Agents ask for MANAGER_NAME, and get the inner certificate."""
        return self._outer

    def towards(self, host: Host) -> Tls | None:
        """Return how to reach a host's agent. None: it has no certificate."""
        return Tls(self._agents, identity_of(host)) if host.identity else None

    def sign(self, request: str, host: Host) -> str:
        """Return a certificate for a host's agent. Raises Invalid."""
        try:
            return self._authority.sign(request, [identity_of(host)])
        except CertificateError as error:
            raise Invalid(
                f"The certificate request is refused: {error}.", cure="Restart the agent; it makes a new one."
            ) from error

    def valid(self) -> bool:
        """Return whether the certificate issued last is valid now. It is not if the clock was ahead then."""
        return self._issued.valid()

    def renew(self, *, anew: bool = False) -> bool:
        """Issue new certificates: `anew`, or if they end soon or are not valid yet, or if this machine has other names now. Return
        whether it did. Running connections stay. Raises SettingsError, ssl.SSLError."""
        if (own := self._own()) is not None:
            contexts.present(self._outer, *own)
        names = _names()
        if not anew and self._issued.good(names):
            return False
        self._issued = self._issue(names)
        pair = self._issued.pair
        for context in (self._inner, self._agents, *([self._outer] if self._files.own is None else [])):
            contexts.present(context, pair.certificate, pair.key)
        self._publish()
        log.info("certificate renewed", names=list(names), ends=authority.expires_at(pair.certificate).isoformat())
        return True

    def _issue(self, names: tuple[str, ...]) -> _Issued:
        return _Issued(self._pair(self._authority, [contexts.MANAGER_NAME, *names]), names)

    def _pair(self, signing: Authority, names: Sequence[str]) -> Pair:
        """Return a new certificate and its key. Raises SettingsError if the authority has ended."""
        try:
            return signing.issue(names)
        except CertificateError as error:
            raise SettingsError(f"{self._files.authority} cannot be used: {error}.") from error

    def _own(self) -> tuple[str, str] | None:
        """Return the operator's certificate and key, which clients that are no agents see."""
        return (_read(self._files.own[0]), _read(self._files.own[1])) if self._files.own is not None else None

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name == contexts.MANAGER_NAME:
            connection.context = self._inner

    def _publish(self) -> None:
        """Write a certificate for the web UI, which has no access to the authority. Its folder gives the file its group."""
        if self._files.ui is None:
            return
        pair = self._pair(self._authority, _names() or ("localhost",))
        folder = os.path.dirname(self._files.ui)
        try:
            descriptor, path = tempfile.mkstemp(dir=folder)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(pair.key + pair.certificate)
                os.fchmod(file.fileno(), SHARED)
                os.fsync(file.fileno())
            os.replace(path, self._files.ui)
        except OSError as error:
            raise SettingsError(f"The certificate of the web UI cannot be written to {folder}: {error}.") from error


def _names() -> tuple[str, ...]:
    """Return the names and addresses by which clients may know this machine."""
    found = {socket.gethostname(), socket.getfqdn(), "localhost"}
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                bare = address.address.partition("%")[0]
                if not is_loopback(bare):
                    found.add(bare)
    return tuple(sorted(name for name in found if name and len(name) < 254 and name.isascii()))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from error

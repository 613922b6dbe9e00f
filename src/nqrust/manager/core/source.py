"""Where a request comes from. Users of the web UI keep their own addresses: the UI passes them on, and proves that it is the UI."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from nqrust.contract.credentials import hash_token
from nqrust.contract.names import CLIENT_HEADER, UI_KEY_HEADER
from nqrust.serving.sources import connection_group


@dataclass(frozen=True)
class Source:
    """`address`: of the user's machine. `peer`: of the machine that connected; another one if the web UI passed the request on.
    `local`: the user of this machine who connected."""

    address: str
    peer: str
    by_ui: bool = False
    local: str = ""

    @property
    def group(self) -> str:
        """Return what counts as one source."""
        return self.local or connection_group(self.address)


def source_of(peer: str, headers: Mapping[str, str], ui_key_sha256: str, local: str = "") -> Source:
    """Return the source of a request. `headers`: with lower-case names. An address from anyone but the UI counts for nothing.
    `local`: see Source."""
    key, client = headers.get(UI_KEY_HEADER.lower(), ""), headers.get(CLIENT_HEADER.lower(), "")
    if not key or not client or not ui_key_sha256 or not hmac.compare_digest(hash_token(key), ui_key_sha256):
        return Source(peer, peer, local=local)
    try:
        return Source(str(ip_address(client.partition("%")[0])), peer, by_ui=True)
    except ValueError:
        return Source(peer, peer, local=local)

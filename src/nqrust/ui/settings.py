"""The web UI's settings, from its environment (`ui.env`). `PORT` and `HOSTNAME` there are for another kind of UI."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from nqrust.contract import names

SESSION_HOURS = 12


class BadSetting(Exception):
    """`code` NQR-CFG-190, `what` and `cure` a sentence each."""

    code = "NQR-CFG-190"

    def __init__(self, what: str, cure: str) -> None:
        self.what, self.cure = what, cure
        super().__init__(f"{self.code}: {what} {cure}")


@dataclass(frozen=True)
class UiSettings:
    """`manager_base`: http(s)://HOST:PORT. `storage_secret` signs the session cookie.

    `certificate_file`: key and certificate (PEM) for other machines; the manager writes and renews it. `plain_http`: other
    machines may also use plain HTTP, because a proxy is between.
    """

    address: str
    port: int
    manager_base: str
    storage_secret: str = field(repr=False)
    certificate_file: str | None = None
    plain_http: bool = True


def from_environment(environment: Mapping[str, str]) -> UiSettings:
    """Read the settings. Raises BadSetting. Without UI_STORAGE_SECRET a new one is created: users sign in again after a restart."""
    bind = environment.get("UI_BIND") or f"0.0.0.0:{names.UI_PORT}"
    address, _, port_text = bind.rpartition(":")
    try:
        port = int(port_text)
    except ValueError:
        port = 0
    if not address or not 0 < port < 65536:
        raise BadSetting(
            f"UI_BIND is {bind}, which is not ADDRESS:PORT.", "Run `nqr install --ui-bind ADDRESS:PORT`, such as 0.0.0.0:3000."
        )
    base = (environment.get("MANAGER_BASE") or f"http://127.0.0.1:{names.MANAGER_PORT}").rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSetting(
            f"MANAGER_BASE is {base}, which is not an http:// or https:// address.",
            "Run `nqr install` again to rewrite ui.env. The value must be http://HOST:PORT.",
        )
    secret = environment.get("UI_STORAGE_SECRET") or secrets.token_urlsafe(32)
    certificate = environment.get("UI_CERT_FILE") or None
    plain = certificate is None or environment.get("UI_PLAIN_HTTP", "false").lower() in ("true", "1", "yes", "on")
    return UiSettings(address.strip("[]"), port, base, secret, certificate, plain)

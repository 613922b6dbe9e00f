"""The credentials in an Authorization header. RFC 9110, 11.6.2; RFC 7617; RFC 6750."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from nqrust.contract.credentials import TOKEN_PREFIX, hash_token
from nqrust.manager.errors import NotAuthenticated

TOKEN_USER = "token"
"""User name for a browser's prompt, with an API token as the password."""


@dataclass(frozen=True)
class Credentials:
    """A token, or else a user's name and password."""

    token: str = ""
    username: str = ""
    password: str = ""

    @property
    def key(self) -> str:
        """A name that does not reveal them. That of a token is its hash, as in the database and in the installer's file."""
        return hash_token(self.token) if self.token else hashlib.sha256(f"{self.username}\0{self.password}".encode()).hexdigest()


def read(authorization: str | None) -> Credentials:
    """Raises NotAuthenticated for a header that says neither."""
    scheme, _, value = (authorization or "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        return Credentials(token=value)
    if scheme.lower() != "basic" or not value:
        raise NotAuthenticated()
    try:
        username, separator, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise NotAuthenticated("The Authorization header cannot be read.") from error
    if not separator or "\0" in username:
        raise NotAuthenticated("The Authorization header cannot be read.")
    if username == TOKEN_USER and password.startswith(TOKEN_PREFIX):
        return Credentials(token=password)
    return Credentials(username=username, password=password)

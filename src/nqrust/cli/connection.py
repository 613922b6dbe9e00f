"""The connection to the manager: its address, the token of this host, and its errors as coded errors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from nqrust import loopback
from nqrust.cli import signals
from nqrust.contract.text import plain
from nqrust.installer.engine.errors import NqrError, UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.installer.settings.model import Settings


class ManagerError(NqrError):
    """The manager refused or could not be reached. Exit code 1."""


ManagerUrl = Annotated[
    str | None,
    typer.Option("--manager", metavar="URL", help="Address of the manager (default: NQR_MANAGER_URL, then this host)."),
]

_CURES = {
    401: "Run it as root on the manager's host, or set NQR_TOKEN to a valid token.",
    403: "Use a token of a user who may do this.",
    404: "List the names with the `ls` command.",
    409: "Check its state with the `show` command, then try again.",
}


@contextmanager
def manager(url: str | None, anonymous: bool = False) -> Iterator[ManagerClient]:
    """Yield a client of the manager. `anonymous`: without the token of this host, to sign in. Every failed call raises
    ManagerError with code, what and cure."""
    from nqrust.client.manager import ClientError, ManagerClient, Refused

    base, token = (_given(url) or _manager_of(installed_settings()), None) if anonymous else address(url)
    _warn_of_plain_text(base, "a password" if anonymous else "a token")
    try:
        with ManagerClient(base, token=token, authority=authority(base)) as client:
            signals.check()
            yield client
    except Refused as error:
        what = str(error).rstrip(".") or f"The manager answered with status {error.status}"
        cure = error.cure or _CURES.get(error.status, "The manager's own log has more: nqr logs manager")
        raise ManagerError(error.code, f"{what}.", cure) from error
    except ClientError as error:
        cure = error.cure or "Look at it with: nqr vm show NAME"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            cure = f"Copy {installed_settings().layout.ca_file} from the manager's host and set NQR_CA_FILE to the copy."
        raise ManagerError(error.code, f"{str(error).rstrip('.')}.", cure) from error


@cache
def _warn_of_plain_text(base: str, secret: str) -> None:
    """Tell once that others on the way can read a secret."""
    scheme, host, _ = _place(base)
    if scheme == "http" and not is_here(host, over_tls=False):
        typer.echo(f"  nqr sends {secret} to {plain(host)} without encryption. Use https there.", err=True)


def address(url: str | None) -> tuple[str, str]:
    """Return base URL and token: from the flag, the environment, or the installation on this host. The token of the installation
    goes to its own manager only, and in plain text to loopback only.

    Raises UsageError NQR-USE-010 (no token), NQR-USE-041 (no valid one), NQR-USE-003 (no address) or NQR-USE-028 (no token for
    that address).
    """
    given, token = _given(url), _sendable(os.environ.get("NQR_TOKEN", "").strip(), "NQR_TOKEN")
    if given and token:
        return given, token
    settings = installed_settings()
    base = given or _manager_of(settings)
    if token or _is_own(base, settings):
        return base, token or _token(settings)
    raise UsageError(
        "NQR-USE-028",
        f"nqr has no token for {base}. The token of this host is for its own manager only, on loopback or over https.",
        "Set NQR_TOKEN to a token of that manager.",
    )


def _is_own(base: str, settings: Settings) -> bool:
    """Return whether `base` is the manager of this host's installation: its port at an address of this machine, or the address
    that the installation names. Whoever listens proves it: with a certificate, or on loopback, where `loopback.check` looks."""
    try:
        place, own = _place(base), _place(_manager_of(settings))
    except ValueError:
        return False
    scheme, host, port = place
    if scheme != "https" and not loopback.is_local(host):
        return False  # any user may listen there while the manager is away, and no certificate is asked for
    return place == own or (settings.has_manager and port == own[2] and is_here(host, over_tls=scheme == "https"))


def _place(base: str) -> tuple[str, str, int | None]:
    parts = urlsplit(base)
    return parts.scheme, (parts.hostname or "").lower(), parts.port


def is_here(host: str, *, over_tls: bool) -> bool:
    """Return whether an address is one of this machine. A name server may lead its name elsewhere, so that needs TLS."""
    if loopback.is_local(host):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return over_tls and host in (socket.gethostname().lower(), socket.getfqdn().lower())
    return loopback.is_own(str(address))


def authority(base: str) -> str | None:
    """Return the certificate authority (PEM) that the manager at `base` must prove: of NQR_CA_FILE, or of the installation on
    this host. None: the address is not https, or neither is there. Raises UsageError NQR-USE-016."""
    if not base.startswith("https://"):
        return None
    given = os.environ.get("NQR_CA_FILE", "").strip()
    path = given or installed_settings().layout.ca_file
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        if not given:
            return None
        raise UsageError(
            "NQR-USE-016",
            f"NQR_CA_FILE names {path}, which cannot be read.",
            "Set it to a copy of the file ca.crt from the manager's host.",
        ) from error


def reached_from_elsewhere(url: str | None) -> str:
    """Return the manager's base URL for other machines: the given one, unless that is this machine's loopback."""
    settings = installed_settings()
    base = _given(url) or _manager_of(settings)
    parts = urlsplit(base)
    if not (parts.hostname == "localhost" or (parts.hostname or "").startswith(("127.", "::1"))):
        return base
    bound = settings.manager.bind.rpartition(":")[0]
    host = bound if bound not in ("0.0.0.0", "[::]") and not bound.startswith("127.") else _own_address()
    return f"{parts.scheme}://{host}:{parts.port}"


def _own_address() -> str:
    """Return the address from which this machine reaches others, or its name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # udp(7): this chooses the address and sends nothing; RFC 5737
        return str(probe.getsockname()[0])
    return socket.getfqdn()


def _given(url: str | None) -> str:
    given = url or os.environ.get("NQR_MANAGER_URL", "").strip()
    if given and not _is_address(given):
        raise UsageError(
            "NQR-USE-003",
            f"The manager's address “{given}” is not an http:// or https:// address.",
            "Give it as in http://10.0.0.5:18080.",
        )
    return given.rstrip("/")


def installed_settings() -> Settings:
    """Return the settings of this host's installation, or the defaults."""
    from nqrust.cli.install.gathering import recorded
    from nqrust.installer.settings.sources import gather
    from nqrust.installer.settings.yaml_file import load

    environ = {"CONFIG_DIR": os.environ["CONFIG_DIR"]} if os.environ.get("CONFIG_DIR") else {}
    try:
        settings = gather(flags={}, environ=environ).settings
        if os.access(settings.layout.config_yaml, os.R_OK):
            return gather(flags={}, environ=environ, config=load(settings.layout.config_yaml)).settings
        return gather(flags={}, environ=environ, recorded=recorded()).settings
    except NqrError:
        return gather(flags={}, environ={}).settings


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _sendable(token: str, source: str) -> str:
    """Return a token that fits into a header (RFC 6750, 2.1). Raises UsageError NQR-USE-041, which does not show it."""
    if all("!" <= sign <= "~" for sign in token):
        return token
    raise UsageError(
        "NQR-USE-041",
        f"{source} has characters that a token cannot have.",
        "Copy the token again, without spaces and line breaks.",
    )


def _manager_of(settings: Settings) -> str:
    if not settings.has_manager:
        return settings.agent.manager_base
    return f"http://127.0.0.1:{settings.manager.bind.rpartition(':')[2]}"


def _token(settings: Settings) -> str:
    path = settings.layout.cli_token_file
    try:
        with open(path, encoding="ascii") as file:
            token = _sendable(file.read().strip(), path)
    except FileNotFoundError as error:
        raise UsageError(
            "NQR-USE-010",
            f"nqr has no token for the manager: {path} does not exist.",
            "Run nqr on the manager's host, or set NQR_TOKEN and NQR_MANAGER_URL.",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "NQR-USE-010",
            f"nqr has no token for the manager: {path} cannot be read.",
            "Run it as root, or set NQR_TOKEN.",
        ) from error
    return token

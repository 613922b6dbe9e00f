"""The operator's own certificate for the web UI and the API (`--tls-cert`, `--tls-key`), read and checked before any change."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.operations import operators_file
from nqrust.installer.settings.model import Settings


def read(host: Host, settings: Settings, installed: Settings | None, *, any_date: bool = False) -> tuple[str, Secret] | None:
    """Return certificate (with its chain) and key, both PEM. None: the settings name none.

    `installed`: settings of the installation on this host. If they name the same file and it is gone, its copy counts.
    `any_date`: also a certificate that has ended.

    Raises UsageError NQR-CFG-014 if one cannot be read, if they do not belong together, or if the certificate has ended.
    """
    named = settings.tls
    if not settings.has_manager or named.certificate is None or named.key is None:
        return None
    from nqrust.tls import authority  # slow to import, and rarely needed

    was, layout = installed.tls if installed is not None else None, settings.layout
    same = was is not None and was.certificate == named.certificate
    certificate_file = operators_file.chosen(host, named.certificate, layout.own_certificate, same=same)
    key_file = operators_file.chosen(host, named.key, layout.own_key, same=was is not None and was.key == named.key)
    try:
        certificate, key = host.read_text(certificate_file), host.read_text(key_file)
    except (HostError, UnicodeDecodeError) as error:
        raise UsageError(
            "NQR-CFG-014",
            f"The certificate {certificate_file} or its key cannot be read ({error}).",
            "Check --tls-cert and --tls-key. Both are PEM files on this host.",
        ) from error
    try:
        belongs, ends = authority.belongs(certificate, key), authority.expires_at(certificate)
    except (authority.CertificateError, ValueError, TypeError) as error:
        raise UsageError(
            "NQR-CFG-014",
            f"{certificate_file} or {key_file} is not a valid PEM file ({error}).",
            "Give the certificate with its chain to --tls-cert, and its key without a passphrase to --tls-key.",
        ) from error
    if not belongs:
        raise UsageError(
            "NQR-CFG-014",
            f"{key_file} is not the key of {certificate_file}.",
            "Give the two files that belong together.",
        )
    if ends <= datetime.now(timezone.utc) and not any_date:
        raise UsageError(
            "NQR-CFG-014",
            f"The certificate {certificate_file} ended on {ends:%Y-%m-%d}.",
            "Renew it, or name another with --tls-cert and --tls-key. Then try again.",
        )
    return certificate, Secret(key)


def read_installed(host: Host, settings: Settings) -> tuple[str, Secret] | None:
    """Return certificate and key for verbs that install none of them. A pair that an install would not take is no obstacle: then
    these are the copies that the services use, each empty where it is gone. None: the settings name none."""
    try:
        return read(host, settings, settings, any_date=True)
    except UsageError:
        return _text(host, settings.layout.own_certificate), Secret(_text(host, settings.layout.own_key))


def ended(host: Host, settings: Settings) -> tuple[str, ...]:
    """Return a sentence with a cure if the certificate that the services use has ended."""
    certificate = settings.tls.certificate if settings.has_manager else None
    text = _text(host, settings.layout.own_certificate) if certificate is not None else ""
    if not text:
        return ()
    from nqrust.tls import authority  # slow to import, and rarely needed

    try:
        ends = authority.expires_at(text)
    except (authority.CertificateError, ValueError):
        return ()  # drift, unless it is what the operator gave
    if ends > datetime.now(timezone.utc):
        return ()
    return (
        f"The certificate of the web UI and the API ended on {ends:%Y-%m-%d}. Renew {certificate}, then run `nqr install`, "
        "or give it another with --tls-cert and --tls-key.",
    )


def _text(host: Host, path: str) -> str:
    with contextlib.suppress(HostError):
        return host.read_text(path)
    return ""

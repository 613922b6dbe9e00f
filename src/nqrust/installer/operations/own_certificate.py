"""The operator's own certificate for the web UI and the API (`--tls-cert`, `--tls-key`), read and checked before any change."""

from __future__ import annotations

from datetime import datetime, timezone

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.settings.model import TlsSettings


def read(host: Host, settings: TlsSettings) -> tuple[str, Secret] | None:
    """Return certificate (with its chain) and key, both PEM. None: the settings name none.

    Raises UsageError NQR-CFG-014 if one cannot be read, if they do not belong together, or if the certificate has ended.
    """
    if settings.certificate is None or settings.key is None:
        return None
    from nqrust.tls import authority  # slow to import, and rarely needed

    try:
        certificate, key = host.read_text(settings.certificate), host.read_text(settings.key)
    except (HostError, UnicodeDecodeError) as error:
        raise UsageError(
            "NQR-CFG-014",
            f"The certificate {settings.certificate} or its key cannot be read ({error}).",
            "Check --tls-cert and --tls-key. Both are PEM files on this host.",
        ) from error
    try:
        belongs, ends = authority.belongs(certificate, key), authority.expires_at(certificate)
    except (authority.CertificateError, ValueError, TypeError) as error:
        raise UsageError(
            "NQR-CFG-014",
            f"{settings.certificate} or {settings.key} is not a valid PEM file ({error}).",
            "Give the certificate with its chain to --tls-cert, and its key without a passphrase to --tls-key.",
        ) from error
    if not belongs:
        raise UsageError(
            "NQR-CFG-014",
            f"{settings.key} is not the key of {settings.certificate}.",
            "Give the two files that belong together.",
        )
    if ends <= datetime.now(timezone.utc):
        raise UsageError(
            "NQR-CFG-014",
            f"The certificate {settings.certificate} ended on {ends:%Y-%m-%d}.",
            "Renew it, then try again.",
        )
    return certificate, Secret(key)

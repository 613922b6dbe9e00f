"""The authority of a database on another machine (`--db-ca`), read and checked before any change."""

from __future__ import annotations

from datetime import datetime, timezone

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.operations import operators_file
from nqrust.installer.settings.model import Settings


def read(host: Host, settings: Settings, installed: Settings | None, *, any_date: bool = False) -> tuple[str, str] | None:
    """Return the certificates (PEM, without any other text of the file), and the file that has them. None: the settings name none.

    `installed`: settings of the installation on this host. If they name the same file and it is gone, its copy counts.
    `any_date`: also if all have ended.

    Raises UsageError NQR-DB-260 if there is no certificate in the file, if one cannot be read, or if all have ended.
    """
    named = settings.database_ca
    if named is None:
        return None
    same = installed is not None and installed.database_ca == named
    path = operators_file.chosen(host, named, settings.layout.database_ca_file, same=same)
    from nqrust.tls import authority, pem  # slow to import, and rarely needed

    try:
        found = [pem.encode([one]) for one in pem.blocks(host.read_text(path))]
        ends = [authority.expires_at(one) for one in found]
    except (HostError, authority.CertificateError, ValueError) as error:  # UnicodeDecodeError and PemError are a ValueError
        raise UsageError(
            "NQR-DB-260",
            f"The database's authority {path} cannot be read ({error}).",
            "Check --db-ca. It is a PEM file on this host.",
        ) from error
    if not found:
        raise UsageError(
            "NQR-DB-260",
            f"There is no certificate in {path}.",
            "Give --db-ca the certificate (PEM) of the authority that signed the database server's.",
        )
    if max(ends) <= datetime.now(timezone.utc) and not any_date:
        raise UsageError(
            "NQR-DB-260",
            f"The database's authority {path} ended on {max(ends):%Y-%m-%d}.",
            "Give --db-ca its new certificate.",
        )
    return "".join(found), path


def read_installed(host: Host, settings: Settings) -> tuple[str, str] | None:
    """Return the same for verbs that install no certificate. A file that an install would not take is no obstacle: then this is
    the copy that the manager uses, empty if it is gone. None: the settings name none."""
    try:
        return read(host, settings, settings, any_date=True)
    except UsageError:
        copy = settings.layout.database_ca_file
    try:
        return host.read_text(copy), copy
    except HostError:
        return "", copy

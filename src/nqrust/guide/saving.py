"""The settings of the guide as a configuration file for `--config`."""

from __future__ import annotations

import yaml

from nqrust.installer.settings.record import remembered
from nqrust.installer.settings.sources import Gathered, nested

DEFAULT = "nqr-config.yaml"


def document(found: Gathered) -> str:
    """Return the settings that are not defaults, as YAML. Secrets are left out, and a comment names their variables."""
    lines = ["# Settings of an install. Use: nqr install --config FILE"]
    secrets = (
        ("NQR_DB_PASSWORD", found.db_password),
        ("NQR_ADMIN_PASSWORD", found.admin_password),
        ("NQR_JOIN_TOKEN", found.join_token),
    )
    lines += [f"# This file holds no secret. Set {name} to the same value as here." for name, value in secrets if value]
    body = yaml.safe_dump(nested(remembered(found.settings)), sort_keys=False, allow_unicode=True)
    return "\n".join(lines) + "\n" + body

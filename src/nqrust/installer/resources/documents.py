"""config.yaml and bootstrap.json."""

from __future__ import annotations

import json

import yaml

from nqrust.contract import credentials
from nqrust.contract.auth import Bootstrap, BootstrapJoinToken, BootstrapToken, Role
from nqrust.installer.context import Context


def config_yaml(context: Context) -> str:
    """Return this installation's settings in the --config format, without secrets."""
    body = yaml.safe_dump(context.settings.model_dump(mode="json"), sort_keys=False, default_flow_style=False)
    return "# The settings of this installation, in the form of `nqr install --config FILE`. Written by nqr.\n" + body


def bootstrap_json(context: Context) -> str:
    """Return hashes of the first administrator's password, root's CLI token and this host's join token
    (contract.auth.Bootstrap)."""
    secrets = context.secrets
    bootstrap = Bootstrap(
        admin_username="admin",
        admin_password_hash=secrets.admin_password_hash,
        tokens=[BootstrapToken(name="nqr-cli", sha256=credentials.hash_token(secrets.cli_token.reveal()), role=Role.admin)],
        join_tokens=[
            BootstrapJoinToken(
                name="this-host",
                sha256=credentials.hash_token(secrets.join_token.reveal()),
                host=context.settings.agent.name or context.facts.hostname,
            )
        ],
        ui_key_sha256=credentials.hash_token(credentials.ui_key(secrets.ui_storage_secret.reveal())),
    )
    return json.dumps(bootstrap.model_dump(mode="json"), indent=2) + "\n"

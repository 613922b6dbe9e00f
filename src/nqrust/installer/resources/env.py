"""Environment files of the services: manager.env, agent.env, ui.env.

The form is the subset that systemd.exec(5) (EnvironmentFile=) and sh(1) read alike: KEY=value, single quotes if needed.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from nqrust.contract import names, paths
from nqrust.host.secret import Secret
from nqrust.installer.context import Context
from nqrust.installer.resources import upstream_env
from nqrust.installer.settings.model import DbType, NetworkMode, TlsMode
from nqrust.installer.verbs.postgres.cluster import expected_port

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=?~-]*")
HEADER = "# Written by nqr. Change settings with `nqr install`; an edit here is kept at uninstall but replaced by a re-run.\n"


def env_line(key: str, value: str) -> str:
    """Return one KEY=value line. Raises ValueError for a value that neither reader accepts (quote, newline)."""
    if _PLAIN.fullmatch(value):
        return f"{key}={value}\n"
    if "'" in value or "\n" in value:
        raise ValueError(f"{key} holds a quote or a newline")
    return f"{key}='{value}'\n"


def _file(values: dict[str, str]) -> str:
    return HEADER + "".join(env_line(key, value) for key, value in values.items())


def _flag(value: bool) -> str:
    return "true" if value else "false"


def database_host(context: Context) -> str:
    """Return 127.0.0.1 for a local database: a name could resolve elsewhere."""
    db = context.settings.database
    return "127.0.0.1" if db.type is DbType.local else db.host


def database_port(context: Context) -> int:
    """Return the port of the remote server, or of the local cluster (existing, or to be created by its packages)."""
    db = context.settings.database
    if db.type is DbType.remote:
        return db.port
    return expected_port(context.facts.postgres, context.facts.ports, db.port, context.release.min_postgres)


def database_url(context: Context, *, with_password: bool = True) -> str:
    """Return the libpq URI (PostgreSQL documentation 34.1.1.2), every part percent-encoded."""
    db = context.settings.database
    user = quote(db.user, safe="")
    if with_password:
        user += ":" + quote(context.secrets.db_password.reveal(), safe="")
    host = database_host(context)
    at = f"{f'[{host}]' if ':' in host else host}:{database_port(context)}"
    return f"postgresql://{user}@{at}/{quote(db.name, safe='')}{_proven_by(context)}"


def _proven_by(context: Context) -> str:
    """Return the query that lets libpq and sqlx send a password only to a server with a certificate of the authority."""
    if context.database_ca is None:
        return ""
    return f"?sslmode=verify-full&sslrootcert={quote(context.layout.database_ca_file)}"


def manager_env(context: Context) -> Secret:
    settings, layout = context.settings, context.layout
    if not context.speaks_our_api:
        return Secret(_file(upstream_env.manager(context, database_url(context))))
    return Secret(
        _file(
            {
                **_database(context),
                "MANAGER_BIND": settings.manager.bind,
                "MANAGER_IMAGE_ROOT": layout.image_dir,
                "MANAGER_STORAGE_ROOT": layout.vms_dir,
                "MANAGER_ALLOW_IMAGE_PATHS": _flag(settings.manager.allow_image_paths),
                "MANAGER_DISK_OVERCOMMIT": str(settings.manager.disk_overcommit),
                "MANAGER_RECONCILER_DISABLED": _flag(settings.manager.reconciler_disabled),
                "MANAGER_EVENTS_DAYS": str(settings.manager.events_days),
                "MANAGER_AUDIT_DAYS": str(settings.manager.audit_days),
                "MANAGER_OPERATIONS_DAYS": str(settings.manager.operations_days),
                "MANAGER_BRIDGE": settings.network.bridge_name,
                "MANAGER_BOOTSTRAP_FILE": layout.bootstrap_json,
                **({"MANAGER_GUEST_AGENT": f"{layout.bin_dir}/guest-agent"} if layout.install_dir != paths.INSTALL_DIR else {}),
                **_manager_tls(context),
            }
        )
    )


def reads_password_file(context: Context) -> bool:
    """Return whether this release's manager takes the password of the database from a file of its own."""
    return context.release.form == "bundled"


def _database(context: Context) -> dict[str, str]:
    if not reads_password_file(context):
        return {"DATABASE_URL": database_url(context)}
    return {
        "DATABASE_URL": database_url(context, with_password=False),
        "DATABASE_PASSWORD_FILE": context.layout.database_password_file,
    }


def _manager_tls(context: Context) -> dict[str, str]:
    layout = context.layout
    found = {"MANAGER_CA_FILE": layout.ca_file, "MANAGER_CA_KEY_FILE": layout.ca_key_file}
    if context.own_tls is not None:
        found |= {"MANAGER_TLS_CERT_FILE": layout.own_certificate, "MANAGER_TLS_KEY_FILE": layout.own_key}
    elif context.settings.has_ui:
        found["MANAGER_UI_CERT_FILE"] = paths.UI_CERT
    if context.settings.tls.mode is TlsMode.off:
        found["MANAGER_PLAIN_HTTP"] = "true"
    return found


def manager_base(context: Context) -> str:
    """Return the manager's address for programs of this host."""
    settings = context.settings
    if not settings.has_manager:
        return settings.agent.manager_base
    return f"http://127.0.0.1:{settings.manager.bind.rpartition(':')[2]}"


def agent_env(context: Context) -> str:
    settings, layout = context.settings, context.layout
    network = settings.network
    if not context.speaks_our_api:
        return _file(upstream_env.agent(context, manager_base(context)))
    values = {
        "AGENT_BIND": settings.agent.bind,
        "AGENT_NAME": settings.agent.name or context.facts.hostname,
        "MANAGER_BASE": manager_base(context),
        "FC_RUN_DIR": layout.data_dir,
        "FC_BRIDGE": network.bridge_name,
        "AGENT_IMAGE_ROOT": layout.image_dir,
        "AGENT_VMM": settings.vmm.value,
        "AGENT_JOIN_TOKEN_FILE": layout.join_token_file,
        "AGENT_STATE_DIR": paths.AGENT_STATE_DIR,
        "AGENT_NETWORK_MODE": network.mode.value,
    }
    if layout.install_dir != paths.INSTALL_DIR:
        values["AGENT_HELPER"] = f"{layout.libexec_dir}/nqrust-helper"
        values["AGENT_BIN_DIR"] = layout.bin_dir
    if settings.agent.advertise_address:
        values["AGENT_ADVERTISE_ADDR"] = settings.agent.advertise_address
    if network.mode is not NetworkMode.bridged:
        values |= {
            "AGENT_NETWORK_CIDR": network.cidr,
            "AGENT_NETWORK_GATEWAY": network.gateway,
            "AGENT_NETWORK_DHCP_FIRST": network.dhcp_first,
            "AGENT_NETWORK_DHCP_LAST": network.dhcp_last,
            "AGENT_GUEST_RELAY_PORT": str(names.GUEST_RELAY_PORT),
            "AGENT_DHCP_HOSTS_DIR": paths.DHCP_HOSTS_DIR,
            "AGENT_DHCP_LEASES": paths.DHCP_LEASES,
        }
    return _file(values)


def ui_env(context: Context) -> Secret:
    settings = context.settings
    address, _, port = settings.ui.bind.rpartition(":")
    if not context.speaks_our_api:
        return Secret(_file(upstream_env.ui(context, manager_base(context))))
    return Secret(
        _file(
            {
                "UI_BIND": settings.ui.bind,
                "PORT": port,
                "HOSTNAME": address,
                "MANAGER_BASE": manager_base(context),
                "NEXT_PUBLIC_API_BASE_URL": manager_base(context),
                "UI_STORAGE_SECRET": context.secrets.ui_storage_secret.reveal(),
                "UI_CERT_FILE": context.layout.own_ui if context.own_tls else paths.UI_CERT,
                **({"UI_PLAIN_HTTP": "true"} if settings.tls.mode is TlsMode.off else {}),
            }
        )
    )

"""The variables that upstream's programs read, by file."""

from __future__ import annotations

from nqrust.installer.context import Context

VERSION_PREFIX = "/v1"  # of upstream's API


def manager(context: Context, database_url: str) -> dict[str, str]:
    """Return manager.env. `database_url` holds the password: upstream's manager reads no file for it."""
    settings, layout = context.settings, context.layout
    return {
        "DATABASE_URL": database_url,
        "MANAGER_BIND": settings.manager.bind,
        "MANAGER_IMAGE_ROOT": layout.image_dir,
        "MANAGER_STORAGE_ROOT": layout.vms_dir,
        "MANAGER_ALLOW_IMAGE_PATHS": "true" if settings.manager.allow_image_paths else "false",
        "MANAGER_RECONCILER_DISABLED": "true" if settings.manager.reconciler_disabled else "false",
        "MANAGER_BRIDGE": settings.network.bridge_name,
    }


def agent(context: Context, manager_base: str) -> dict[str, str]:
    """Return agent.env. A manager on this host reaches the agent by loopback, one elsewhere by this host's own address."""
    settings, network = context.settings, context.facts.network
    address = settings.agent.advertise_address or ("127.0.0.1" if settings.has_manager else network.own_address)
    port = settings.agent.bind.rpartition(":")[2]
    return {
        "AGENT_BIND": settings.agent.bind,
        **({"AGENT_ADVERTISE_ADDR": f"http://{address}:{port}"} if address else {}),
        "AGENT_NAME": settings.agent.name or context.facts.hostname,
        "MANAGER_BASE": manager_base,
        "FC_RUN_DIR": context.layout.data_dir,
        "FC_BRIDGE": settings.network.bridge_name,
    }


def ui(context: Context, manager_base: str) -> dict[str, str]:
    """Return ui.env. NEXT_PUBLIC_* also stand in the built pages, so there they have the values of their publisher."""
    address, _, port = context.settings.ui.bind.rpartition(":")
    return {
        "NODE_ENV": "production",
        "PORT": port,
        "HOSTNAME": address,
        "MANAGER_BASE": manager_base,
        "NEXT_PUBLIC_API_BASE_URL": f"{manager_base}{VERSION_PREFIX}",
    }

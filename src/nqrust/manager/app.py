"""Assembles the manager: the ASGI application and its background tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from nqrust import __version__
from nqrust.contract.auth import Bootstrap
from nqrust.contract.problem import Problem
from nqrust.manager.access import routes as accounts_api
from nqrust.manager.access import service as accounts
from nqrust.manager.api import channel, problems, system
from nqrust.manager.api.gate import OPEN, Gate
from nqrust.manager.core.agents import Agents
from nqrust.manager.core.core import Core
from nqrust.manager.core.files import Files
from nqrust.manager.core.trust import LOOK_EVERY, RENEW_EVERY, Trust
from nqrust.manager.errors import DatabaseAway, DatabaseLocked, SettingsError
from nqrust.manager.hosts import routes as hosts
from nqrust.manager.hosts.agents import RemoteAgents
from nqrust.manager.images import registry
from nqrust.manager.images import routes as images
from nqrust.manager.settings import Settings
from nqrust.manager.store.database import Database
from nqrust.manager.templates import routes as templates
from nqrust.manager.unknown_vms import routes as unknown_vms
from nqrust.manager.vms import console
from nqrust.manager.vms import routes as vms
from nqrust.manager.volumes import routes as volumes
from nqrust.manager.work.housekeeping import housekeeping
from nqrust.manager.work.leader import lead
from nqrust.manager.work.reconciler import Reconciler
from nqrust.manager.work.worker import Worker
from nqrust.serving.plain import Plain

log = structlog.get_logger("nqrust.manager")

FOLLOW_EVERY = 1.0
"""Seconds between looks at the installer's files."""


def create_core(settings: Settings, agents: Agents | None = None) -> Core:
    """Create the core. `agents`: the real ones, except in tests. Raises SettingsError."""
    trust = Trust(settings.tls) if settings.tls else None
    database = Database(settings.sqlalchemy_url, password_file=settings.database_password_file)
    return Core(settings=settings, db=database, agents=agents or RemoteAgents(), trust=trust)


async def prepare(core: Core) -> None:
    """Prepare everything that the first request needs. Raises DatabaseAway, SchemaMissing, SettingsError."""
    wanted = accounts.read_bootstrap(core.settings.bootstrap_file) if core.settings.bootstrap_file else None
    await core.db.wait_until_there(core.settings.database_wait_seconds)
    await core.db.require_schema()
    if wanted is not None:
        await _bootstrap(core, wanted)
    await registry.clear_broken_downloads(core)
    await registry.scan(core)


async def _bootstrap(core: Core, wanted: Bootstrap) -> None:
    """Ensure the installer's users and tokens. Tries again while another transaction holds a lock: a manager that ends would only
    be started again. Raises DatabaseLocked after the time that the manager waits for its database."""
    deadline = time.monotonic() + core.settings.database_wait_seconds
    while True:
        try:
            return await accounts.bootstrap(core, wanted)
        except DatabaseLocked as error:
            if time.monotonic() > deadline:
                raise
            log.warning("waiting for a lock in the database", cure=error.cure)


def create_app(core: Core) -> FastAPI:
    """Create the application. Its lifespan runs the worker and the reconciler (as leader) and cleans up at the end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        own = [asyncio.create_task(one) for one in (lead(core, duties(core)), keep_certificates(core), follow_files(core))]
        try:
            yield
        finally:
            for running in (*own, *core.background):
                running.cancel()
            await asyncio.gather(*own, *core.background, return_exceptions=True)
            core.hashing.close()
            await core.agents.close()
            await core.db.close()

    app = FastAPI(
        title="NQRust-MicroVM manager",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,  # the manager serves it behind the gate
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=problems.RESPONSES,
        separate_input_output_schemas=False,
    )
    for module in (system, accounts_api, unknown_vms, vms, templates, volumes, images, hosts, console):
        app.include_router(module.router)
    app.include_router(images.catalogue)
    app.include_router(hosts.first_contact)
    app.include_router(hosts.rotations)
    problems.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(Gate, core=core)
    if core.trust is not None:
        plain = core.settings.plain_http
        app.add_middleware(Plain, allowed=lambda scope: plain or channel.may_be_plain(scope), refuse=channel.refuse)
    return app


def duties(core: Core) -> list[Callable[[], Awaitable[None]]]:
    """Run the tasks of the leader."""
    result: list[Callable[[], Awaitable[None]]] = [Worker(core).run, lambda: housekeeping(core)]
    if core.settings.reconciler_disabled:
        log.warning("reconciler only observes: MANAGER_RECONCILER_DISABLED")
    result.append(Reconciler(core, acts=not core.settings.reconciler_disabled).run)
    return result


async def keep_certificates(core: Core) -> None:
    """Renew the manager's certificates. Every manager has its own, so this is no duty of the leader."""
    looked = time.monotonic()
    while core.trust is not None:
        await asyncio.sleep(LOOK_EVERY)
        if core.trust.valid() and time.monotonic() - looked < RENEW_EVERY:
            continue
        looked = time.monotonic()
        try:
            await asyncio.to_thread(core.trust.renew)
        except (SettingsError, OSError) as error:  # ssl.SSLError is an OSError
            log.error("certificates not renewed", why=str(error))


async def follow_files(core: Core) -> None:
    """Read the installer's files again after a rotation has replaced them. Connections stay, and nothing restarts."""
    path = core.settings.bootstrap_file
    files = Files([path] if path else [])
    while True:
        await asyncio.sleep(FOLLOW_EVERY)
        if path and files.changed():
            try:
                await accounts.bootstrap(core, await asyncio.to_thread(accounts.read_bootstrap, path))
                log.info("tokens of the installer read again")
            except (SettingsError, DatabaseAway) as error:
                log.error("tokens of the installer not read again", why=str(error))
                files.again()
        if core.trust is not None:
            try:
                await asyncio.to_thread(core.trust.reload)
            except (SettingsError, OSError) as error:  # ssl.SSLError is an OSError
                log.error("authorities not read again", why=str(error))


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic"},
        }
        schema["security"] = [{"bearer": []}, {"basic": []}]
        for method, path in OPEN:
            operation = schema["paths"].get(path, {}).get(method.lower())
            if operation is not None:
                operation["security"] = []
        app.openapi_schema = schema
    return app.openapi_schema

"""A real PostgreSQL of our own for the manager's tests: a temporary cluster on loopback, gone afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import glob
import hashlib
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from tests.container_images import BUSYBOX
from tests.live import container_registry
from tests.live.container_registry import Registry
from tests.live.manager.simulated_agents import SimulatedAgent, SimulatedAgents

from nqrust.client import calls
from nqrust.image import cpio


def _binaries() -> str | None:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda p: int(p.split("/")[4]))
    return os.path.dirname(found[-1]) if found else None


class Cluster:
    """One PostgreSQL server. `url(name)` is a fresh database's postgresql:// URL."""

    def __init__(self, binaries: str, user: str | None) -> None:
        self._prefix = ["runuser", "-u", user, "--"] if user else []
        self._binaries = binaries
        self.directory = tempfile.mkdtemp(prefix="nqr-pg-")
        if user:
            os.chown(self.directory, pwd.getpwnam(user).pw_uid, -1)
        self.data = f"{self.directory}/data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        password_file = f"{self.directory}/pw"
        self.password = secrets.token_hex(8)
        with open(password_file, "w") as file:
            file.write(self.password)
        os.chmod(password_file, 0o644)
        self._run(
            "initdb",
            "-D",
            self.data,
            "-U",
            "nexus",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        )
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._prefix, f"{self._binaries}/{program}", *arguments],
            capture_output=True,
            text=True,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr + done.stdout

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.directory} -c fsync=off -c shared_buffers=16MB"
        self._run("pg_ctl", "-D", self.data, "-w", "-s", "-l", f"{self.directory}/log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-s", "-m", mode, "stop")

    def url(self, name: str) -> str:
        return f"postgresql://nexus:{self.password}@127.0.0.1:{self.port}/{name}"

    def fresh(self, template: str = "template1") -> str:
        """A new database's URL."""
        import psycopg

        name = "t" + secrets.token_hex(6)
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def close(self) -> None:
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed here")
    user = None
    if os.geteuid() == 0:
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL refuses to run as root and there is no runuser here")
        user = "nobody"
    server = Cluster(binaries, user)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture()
def database_url(cluster: Cluster) -> str:
    """Of an empty database."""
    return cluster.fresh()


@pytest.fixture(scope="session")
def migrated(cluster: Cluster) -> str:
    """Name of a database with our tables, to copy from: faster than migrating for every test."""
    from nqrust.manager.store.migrate import migrate

    url = cluster.fresh()
    migrate(url.replace("postgresql://", "postgresql+psycopg://"))
    return url.rsplit("/", 1)[1]


@pytest.fixture()
def tables_url(cluster: Cluster, migrated: str) -> str:
    """Of a database with our tables and nothing in them."""
    return cluster.fresh(migrated)


# --- a manager with simulated agents
ADMIN_PASSWORD = "correct horse battery"


def make_image(root: str, name: str = "tiny") -> str:
    """A small but valid image folder; its path."""
    folder = os.path.join(root, name)
    os.makedirs(folder, exist_ok=True)
    blobs = {}
    for part, content in (("rootfs", b"r" * 4096), ("kernel", b"k" * 512), ("initrd", b"i" * 256)):
        with open(os.path.join(folder, part), "wb") as file:
            file.write(content)
        blobs[part] = {"file": part, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"name": name, "created_at": "2026-01-01T00:00:00Z", **blobs}
    with open(os.path.join(folder, "image.json"), "w") as file:
        json.dump(manifest, file)
    return folder


def by_root(app: Any) -> Any:
    """The application, for requests without a socket: those from loopback come from root's programs, if a test says
    nothing else."""
    from nqrust.serving import sources

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        source = sources.source_of(scope["client"], ("127.0.0.1", 18080))
        if source.startswith(sources.LOOPBACK):
            scope.setdefault("state", {})[sources.STATE] = source.replace("None", "0")
        await app(scope, receive, send)

    return asked


class Running:
    """A manager in this process, reached through ASGI."""

    def __init__(self, core: Any, app: Any, agents: SimulatedAgents) -> None:
        self.core, self.app, self.agents = core, app, agents
        self.admin_token = ADMIN_TOKEN

    def client(self, token: str | None = None, source: str = "127.0.0.1", **headers: str) -> Any:
        from nqrust.client.manager import AsyncManagerClient

        transport = httpx.ASGITransport(app=by_root(self.app), client=(source, 1234))
        return AsyncManagerClient("http://manager", token=token, transport=transport, headers=headers)

    @property
    def admin(self) -> Any:
        return self.client(ADMIN_TOKEN)

    async def host(self, name: str = "h1", memory_mib: int = 8192, first: str = "10.0.0.10") -> tuple[Any, SimulatedAgent, Any]:
        """A registered host: (registration, its agent, the agent's client)."""
        joined = await self.client(JOIN_TOKEN).send(calls.register(host_body(name, memory_mib, first)))
        agent = self.agents.at(f"http://{name}.test:19090", "")
        agent.host_id = joined.host_id
        return joined, agent, self.client(joined.agent_token)

    async def role(self, role: str) -> Any:
        """A client with that role only."""
        from nqrust.contract.auth import Role, TokenCreate

        return self.client((await self.admin.send(calls.create_token(TokenCreate(name=role, role=Role(role))))).token)

    async def settled_image(self, name: str) -> Any:
        """The image, once it is no longer being fetched or looked for; as it is after a minute."""
        for _ in range(1200):
            image = await self.admin.send(calls.get_image(name))
            if image.download is None and image.state not in ("downloading", "missing"):
                return image
            await asyncio.sleep(0.05)
        return image

    async def until(self, vm: str, condition: Any, timeout: float = 60.0) -> Any:
        return await self.admin.wait_for(vm, condition, timeout=timeout)


def host_body(name: str = "h1", memory_mib: int = 8192, first: str = "10.0.0.10", url: str = "") -> Any:
    from nqrust.contract.hosts import HostCapacity, HostNetwork, HostRegister

    return HostRegister(
        name=name,
        advertise_url=url or f"http://{name}.test:19090",
        version="0.1.0",
        boot_id="boot-1",
        vmm="qemu",
        accel="tcg",
        kvm=False,
        capacity=HostCapacity(cpus=4, memory_mib=memory_mib, disk_mib=10**6, disk_available_mib=10**6),
        network=HostNetwork(bridge="fcbr0", cidr="10.0.0.0/24", gateway="10.0.0.1", dhcp_first=first, dhcp_last="10.0.0.250"),
    )


ADMIN_TOKEN = "nqr_" + "a" * 43
JOIN_TOKEN = "nqr_" + "j" * 43
UI_KEY = "the key of the web UI"


@pytest.fixture()
async def manager(tables_url: str, tmp_path: Any) -> AsyncIterator[Running]:
    """A migrated, bootstrapped manager with the image `tiny` and no hosts; reconciler off (tests call it; one pass comes at the start)."""
    from nqrust.contract.credentials import hash_password, hash_token
    from nqrust.host.secret import Secret
    from nqrust.manager import app as application
    from nqrust.manager.settings import Settings

    images = tmp_path / "images"
    images.mkdir()
    make_image(str(images))
    bootstrap = tmp_path / "bootstrap.json"
    bootstrap.write_text(
        json.dumps(
            {
                "admin_password_hash": hash_password(ADMIN_PASSWORD),
                "tokens": [{"name": "cli", "sha256": hash_token(ADMIN_TOKEN), "role": "admin"}],
                "join_tokens": [{"name": "local", "sha256": hash_token(JOIN_TOKEN)}],
                "ui_key_sha256": hash_token(UI_KEY),
            }
        )
    )
    settings = Settings(
        database_url=Secret(tables_url),
        image_root=str(images),
        bootstrap_file=str(bootstrap),
        reconciler_disabled=True,
        reconcile_seconds=3600,
        image_path_roots=(str(tmp_path / "more"),),
        database_wait_seconds=5,
    )
    agents = SimulatedAgents()
    core = application.create_core(settings, agents)
    await application.prepare(core)
    app = application.create_app(core)
    before = passes()
    async with app.router.lifespan_context(app):
        end = time.monotonic() + 5
        while passes() == before and time.monotonic() < end:  # or it would look at the hosts of the test, too
            await asyncio.sleep(0.005)
        yield Running(core, app, agents)


def passes() -> float:
    """Passes of all reconcilers of this process."""
    from nqrust.manager.metrics import REGISTRY

    return REGISTRY.get_sample_value("nqrust_reconcile_duration_seconds_count") or 0.0


@pytest.fixture()
async def served(manager: Any) -> Any:
    """(manager's ws:// base, running manager); the application on a real port. Its lifespan runs already."""
    config = uvicorn.Config(manager.app, host="127.0.0.1", port=0, lifespan="off", log_config=None, ws="websockets-sansio")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"ws://127.0.0.1:{port}", manager
    server.should_exit = True
    await task


@pytest.fixture()
def admin_password() -> str:
    return ADMIN_PASSWORD


@pytest.fixture()
def join_token() -> str:
    return JOIN_TOKEN


@pytest.fixture()
def ui_key() -> str:
    return UI_KEY


@pytest.fixture(name="host_body")
def host_body_fixture() -> Any:
    return host_body


@pytest.fixture(name="make_image")
def make_image_fixture() -> Any:
    return make_image


@pytest.fixture()
async def start_second(manager: Running) -> AsyncIterator[Any]:
    """Starts a second manager on the same database and the same agents; its core."""
    from nqrust.manager import app as application

    started = []

    async def start() -> Any:
        core = application.create_core(manager.core.settings, manager.agents)
        app = application.create_app(core)
        context = app.router.lifespan_context(app)
        await context.__aenter__()
        started.append(context)
        return core

    yield start
    for context in started:
        await context.__aexit__(None, None, None)


@pytest.fixture(scope="session")
def make_image_module() -> Any:
    return make_image


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    container_registry.require()
    running = Registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.close()


@pytest.fixture()
async def pulling(manager: Running, make_image: Any, tmp_path: Path) -> AsyncIterator[Any]:
    """A manager whose `tiny` has an initrd with busybox, and whose release has a guest agent."""
    (tmp_path / "guest-agent").write_bytes(b"\x7fELF guest agent")
    root = manager.core.settings.image_root
    initrd = cpio.archive([cpio.file("bin/busybox", Path(BUSYBOX).read_bytes(), 0o755)])
    place = make_image(root)
    Path(place, "initrd").write_bytes(initrd)
    manifest = json.loads(Path(place, "image.json").read_text())
    manifest["initrd"] = {"file": "initrd", "size": len(initrd), "sha256": hashlib.sha256(initrd).hexdigest()}
    Path(place, "image.json").write_text(json.dumps(manifest))
    manager.core.settings = dataclasses.replace(manager.core.settings, guest_agent=str(tmp_path / "guest-agent"))
    await manager.admin.send(calls.scan_images())
    yield manager

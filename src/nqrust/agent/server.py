"""The running agent: two listeners, the link to the manager and the upkeep in one process."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Awaitable, Callable

import structlog

import nqrust
from nqrust.agent import facts
from nqrust.agent.api import app as agent_api
from nqrust.agent.api import relay
from nqrust.agent.api.listeners import GuestServer, Server, bind_all, bind_relay
from nqrust.agent.disks.blobs import Blobs
from nqrust.agent.errors import SettingsError
from nqrust.agent.keep_up import KeepUp
from nqrust.agent.link import farewell
from nqrust.agent.link.credentials import CredentialStore, local_token_hash
from nqrust.agent.link.manager_link import ManagerLink
from nqrust.agent.network.dhcp import Dhcp
from nqrust.agent.network.filters import Filters
from nqrust.agent.network.forwards import Forwards
from nqrust.agent.network.lan import LanGuard
from nqrust.agent.network.port_guard import PortGuard
from nqrust.agent.network.relay_port import RelayPort
from nqrust.agent.network.rules import NetworkRules
from nqrust.agent.network.sources import Sources
from nqrust.agent.network.taps import Filter, Taps
from nqrust.agent.scopes import chooser, launch
from nqrust.agent.settings import Settings
from nqrust.agent.store import Store
from nqrust.agent.vmm.registry import drivers
from nqrust.agent.vms import upkeep
from nqrust.agent.vms.guests import GuestBook
from nqrust.agent.vms.service import VmService
from nqrust.agent.vms.starting import Parts
from nqrust.contract.hosts import Heartbeat, HostNetwork, HostRegister
from nqrust.host.port import Host

log = structlog.get_logger("nqrust.agent")

_AGAIN = 2.0  # seconds before an ended task is restarted
_MOVED = 10.0  # seconds between two looks at the bridge's address


class Agent:
    """Built from the settings. `serve` runs until SIGTERM or SIGINT. VMs continue to run unless the host itself goes down."""

    def __init__(self, host: Host, settings: Settings) -> None:
        self.host, self.settings = host, settings
        self._make_folders()
        farewell.forget(host, settings.state_dir)
        launch.prepare(host, settings)
        self.credentials = CredentialStore(host, settings.credentials_file)
        network = settings.network
        store = Store(host, settings.vms_dir)
        self.link = ManagerLink(
            host, settings.manager_base, self.credentials, settings.join_token_file, self._describe, self._beat
        )
        self.guests = GuestBook(store)
        lan = network.mode == "bridged"
        self.sources: Filter = (
            LanGuard(host, network.bridge, store.all, network.relay_port)
            if lan
            else Filters(Sources(host, network.bridge, store.all, settings.peers_ports), PortGuard(host, store.all))
        )
        self.relay_port = RelayPort(host, network.bridge, network.relay_port)
        self.service = VmService(
            Parts(
                host=host,
                settings=settings,
                store=store,
                scopes=chooser.choose(host, settings),
                taps=Taps(
                    host,
                    network.bridge,
                    isolated=network.guest_isolation,
                    records=store.all,
                    sources=self.sources,
                    lan=lan,
                ),
                dhcp=Dhcp(
                    host,
                    bridge=network.bridge,
                    server=network.gateway,
                    hosts_dir=settings.dhcp_hosts_dir,
                    leases=settings.dhcp_leases,
                ),
                blobs=Blobs(
                    host,
                    settings.image_root,
                    f"{settings.run_dir}/images-cache",
                    self.link.fetch,
                    store.images,
                ),
                guests=self.guests,
                drivers=drivers(host, settings.bin_dir),
                forwards=Forwards(host, network, store.all, settings.platform_ports),
            )
        )
        self.rules = NetworkRules(host, settings.network_script)
        self.verbs = agent_api.Verbs()
        self.api = agent_api.build(
            self.service,
            self.verbs,
            host_id=lambda: self.credentials.current.host_id if self.credentials.current else None,
            command_hashes=self.credentials.command_hashes,
            local_hash=local_token_hash(host, settings.local_token_file),
            has_certificate=lambda: self.link.channel.identity is not None,
        )
        self.relay = relay.build(self.guests, self.verbs.run, self.link.forward)

    async def serve(self) -> None:
        """Serve until a signal. Raises SettingsError if the agent's own address cannot be bound."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        # The kernel sends it when somebody opens a file on which the agent has a lease: untrusted.py. By default it ends the process.
        signal.signal(signal.SIGIO, lambda *_: None)
        main = Server(self.api, bind_all(*self.settings.bind), self.link.channel.server_context)
        background = [
            asyncio.create_task(_lasting(work))
            for work in (self._serve_guests, self.link.run, self.link.run_forwarding, self._keep_up, self._keep_logs)
        ]
        serving = asyncio.create_task(main.serve())
        log.info(
            "agent.started",
            version=nqrust.__version__,
            bind=":".join(map(str, self.settings.bind)),
            scopes=type(self.service.scopes).__name__,
            **self.service.verdict().__dict__,
        )
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*background, waiting):
            task.cancel()
        main.should_exit = True
        await serving
        await asyncio.gather(*background, waiting, return_exceptions=True)
        seconds = await asyncio.to_thread(farewell.due, self.host, self.settings.state_dir)
        if seconds is not None:
            for name, gone in (await asyncio.to_thread(farewell.say, self.service, seconds)).items():
                log.info("guest.asked_to_power_off", vm=name, done=gone)
        log.info("agent.stopped")

    def _guests_address(self) -> str | None:
        return self.settings.network.gateway or facts.bridge_address(self.settings.network.bridge)

    async def _serve_guests(self) -> None:
        """Listen on the bridge's address while it exists. On a LAN's bridge it may change."""
        await self.verbs.run(self.relay_port.sync)
        told = False
        while True:
            address = self._guests_address()
            try:
                if not address:
                    raise OSError(errno.EADDRNOTAVAIL, "the bridge has no address")
                listener = bind_relay(address, self.settings.network.relay_port)
                break
            except (OSError, SettingsError) as error:
                if not told:
                    why = getattr(error, "what", str(error))
                    log.warning("relay.waiting", bridge=self.settings.network.bridge, why=why)
                    told = True
                await asyncio.sleep(2.0)
        log.info("relay.listening", address=address, port=self.settings.network.relay_port)
        server = GuestServer(self.relay)
        moved = asyncio.create_task(self._until_moved(server, address))
        try:
            await server.serve(sockets=[listener])
        finally:
            moved.cancel()
            listener.close()

    async def _until_moved(self, server: GuestServer, address: str) -> None:
        """End the server when the bridge has another address. `_lasting` starts the next one."""
        while True:
            await asyncio.sleep(_MOVED)
            if self._guests_address() not in (address, None):
                break
        log.warning("relay.address_changed", was=address)
        server.should_exit = True

    async def _keep_logs(self) -> None:
        """Regularly: whatever keeps the rest of the upkeep waiting, a guest that floods its console does not."""
        while True:
            for vm_id in await self.verbs.run(lambda: upkeep.bound_logs(self.service)):
                log.info("log.cut", vm=vm_id)
            await asyncio.sleep(upkeep.LOGS_EVERY)

    async def _keep_up(self) -> None:
        keep = KeepUp(self.service, self.verbs, self.rules, self.sources, self.relay_port, self.link.announce_change)
        follower = asyncio.create_task(keep.follow_rules())
        try:
            await keep.run()
        finally:
            follower.cancel()

    def _make_folders(self) -> None:
        for path, mode in (
            (self.settings.state_dir, 0o700),
            (self.settings.run_dir, 0o755),
            (self.settings.vms_dir, 0o711),
        ):
            if self.host.stat(path) is None:
                self.host.mkdir(path, mode=mode)

    def _describe(self) -> HostRegister:
        verdict, network = self.service.verdict(), self.settings.network
        return HostRegister(
            name=self.settings.name,
            advertise_url=facts.advertised_url(self.settings.advertise, self.settings.bind, self.settings.manager_base),
            version=nqrust.__version__,
            boot_id=facts.boot_id(self.host, self.settings.state_dir),
            vmm=verdict.vmm,
            accel=verdict.accel,
            kvm=verdict.kvm,
            capacity=facts.capacity(self.host, self.settings.run_dir),
            network=HostNetwork(
                mode=network.mode,
                bridge=network.bridge,
                cidr=network.cidr,
                gateway=network.gateway,
                dhcp_first=network.dhcp_first,
                dhcp_last=network.dhcp_last,
                guest_relay=self.service.relay_url(),
                kept_ports=sorted(self.settings.platform_ports),
            ),
        )

    def _beat(self) -> Heartbeat:
        return Heartbeat(
            version=nqrust.__version__,
            boot_id=facts.boot_id(self.host, self.settings.state_dir),
            capacity=facts.capacity(self.host, self.settings.run_dir),
            vms_running=sum(bool(scope.vmm) for scope in self.service.scopes.all().values()),
        )


async def _lasting(work: Callable[[], Awaitable[None]]) -> None:
    """Run a task while the agent runs, and restart it after unexpected errors."""
    while True:
        try:
            await work()
            log.error("task.ended", task=work.__qualname__)
        except Exception:
            log.exception("task.ended", task=work.__qualname__)
        await asyncio.sleep(_AGAIN)

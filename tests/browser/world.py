"""Content of the manager in memory: users, VMs, images, hosts, events, and the state changes of VMs."""

from __future__ import annotations

import asyncio
import random
import secrets
import uuid
from collections.abc import Coroutine
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from typing import Any

from nqrust.contract import auth, events, hosts, images, names, templates, vms, volumes
from nqrust.contract.problem import Problem

PASSWORD = "correct horse battery"
ACCOUNTS = {"admin": auth.Role.admin, "olga": auth.Role.operator, "victor": auth.Role.viewer}

TURNS = {
    "start": (vms.VmState.starting, vms.VmState.running),
    "stop": (vms.VmState.stopping, vms.VmState.stopped),
    "pause": (vms.VmState.running, vms.VmState.paused),
    "resume": (vms.VmState.paused, vms.VmState.running),
    "restart": (vms.VmState.starting, vms.VmState.running),
}


def now() -> datetime:
    return datetime.now(timezone.utc)


class Refusal(Exception):
    def __init__(self, status: int, title: str, detail: str = "", code: str = "NQR-API-001", cure: str = "") -> None:
        self.problem = Problem(title=title, status=status, detail=detail, code=code, cure=cure)


class World:
    """The whole content. `down` makes every route answer 503; `delay` (seconds) slows them."""

    def __init__(self) -> None:
        self.down = False
        self.delay = 0.0
        self.sessions: dict[str, tuple[str, auth.Role]] = {}
        self.users = [auth.User(id=str(uuid.uuid4()), username=n, role=r, created_at=now()) for n, r in ACCOUNTS.items()]
        self.tokens: list[auth.Token] = []
        self.vms: dict[str, vms.Vm] = {}
        self.images: dict[str, images.Image] = {}
        self.templates: dict[str, templates.Template] = {}
        self.volumes: dict[str, volumes.StoredVolume] = {}
        self.hosts: dict[str, hosts.Host] = {}
        self.events: list[events.Event] = []
        self.audit: list[events.AuditEntry] = []
        self.tickets: dict[str, str] = {}
        self.passwords: dict[str, str] = {}
        self.user_data: dict[str, str] = {}
        self.snapshots: dict[str, list[vms.Snapshot]] = {}
        self.go_on = asyncio.Event()
        self.verbs: set[asyncio.Task[None]] = set()
        self.started = now()
        self.add_image("tiny", "Minimal guest: busybox, guest agent, serial console")
        self.add_host("kvm1", "kvm")

    def change_password(self, name: str, wanted: auth.PasswordChange, here: str) -> None:
        """`here`: the token of the session that stays."""
        if wanted.current_password != self.passwords.get(name, PASSWORD):
            raise Refusal(403, "Wrong password", "The current password is wrong.", "NQR-API-126", "Type it again.")
        self.passwords[name] = wanted.new_password
        self.sessions = {token: who for token, who in self.sessions.items() if who[0] != name or token == here}

    # --- what there is
    def add_image(self, name: str, description: str = "", state: str = "ready") -> images.Image:
        blob = images.Blob(file="rootfs.ext4", size=32 << 20, sha256=secrets.token_hex(32))
        manifest = images.ImageManifest(name=name, description=description, rootfs=blob, kernel=blob, created_at=now())
        image = images.Image(
            id=str(uuid.uuid4()),
            name=name,
            description=description,
            arch="x86_64",
            size=blob.size,
            sha256=blob.sha256,
            state=state,
            min_memory_mib=96,
            min_disk_mib=32,
            created_at=now(),
            manifest=manifest,
        )
        self.images[name] = image
        return image

    def fetch_image(self, name: str, broken: bool, origin: str = "") -> images.Image:
        """Reach the half, wait for a signal to continue, and end as ready or corrupt."""
        image = self.add_image(name, state="downloading")
        image.origin = origin
        image.download = images.Download(done=24 << 20, total=48 << 20)

        async def fetch() -> None:
            await self.go_on.wait()
            image.download = None
            image.state, image.error = (
                ("corrupt", "kernel does not have the sha256 that its image.json gives") if broken else ("ready", "")
            )

        self._keep(fetch())
        return image

    def take_snapshot(self, vm: vms.Vm, name: str) -> vms.Snapshot:
        if vm.state is vms.VmState.running and self.hosts[vm.host or ""].vmm != "firecracker":
            raise Refusal(
                409,
                "Not now",
                f"VM {vm.name} runs under qemu, which cannot save a running VM.",
                "NQR-API-122",
                "Stop the VM, take the snapshot, then start the VM.",
            )
        found = vms.Snapshot(
            name=name, kind="full" if vm.state is vms.VmState.running else "disk", created_at=now(), state="creating"
        )
        self.snapshots.setdefault(vm.id, []).append(found)

        async def finish() -> None:
            await asyncio.sleep(0.6)
            found.state, found.size = "ready", 32 << 20

        self._keep(finish())
        return found

    def restore(self, vm: vms.Vm, snapshot: str) -> vms.Vm:
        if vm.state is not vms.VmState.stopped:
            raise Refusal(
                409,
                "Not now",
                f"VM {vm.name} is {vm.state.value}, or an operation is running.",
                "NQR-API-111",
                "Stop the VM first.",
            )
        self.tell("vm", vm.id, vm.name, "SnapshotRestored", f"VM {vm.name} was restored from snapshot {snapshot}.")
        return vm

    def forward(self, vm: vms.Vm, wanted: list[vms.PortForward]) -> vms.Vm:
        for other in self.vms.values():
            for forward in wanted:
                if other is not vm and forward.host_port in [taken.host_port for taken in other.forwards]:
                    raise Refusal(
                        409,
                        "Taken",
                        f"Host {vm.host} has port {forward.host_port} in use for {other.name}.",
                        "NQR-API-121",
                        "Choose another port.",
                    )
        vm.forwards = wanted
        return vm

    def add_host(self, name: str, accel: str, state: hosts.HostState = hosts.HostState.online) -> hosts.Host:
        number = len(self.hosts) + 1
        host = hosts.Host(
            id=str(uuid.uuid4()),
            name=name,
            state=state,
            url=f"http://192.0.2.{number}:19090",
            version="0.1.0",
            boot_id=str(uuid.uuid4()),
            vmm="firecracker" if accel == "kvm" else "qemu",
            accel=accel,
            kvm=accel == "kvm",
            capacity=hosts.HostCapacity(
                cpus=16,
                memory_mib=65536,
                memory_available_mib=41000,
                disk_mib=953674,
                disk_available_mib=120000 if number == 2 else 640000,
            ),
            network=hosts.HostNetwork(bridge="fcbr0", cidr="10.0.0.0/24", gateway="10.0.0.1"),
            last_seen_at=now(),
            created_at=now(),
        )
        self.hosts[name] = host
        return host

    def add_vm(self, wanted: vms.VmCreate) -> vms.Vm:
        vm_id = str(uuid.uuid4())
        host = wanted.host or min(self.hosts.values(), key=lambda h: h.vms).name
        self.hosts[host].vms += 1
        vm = vms.Vm(
            id=vm_id,
            name=wanted.name,
            state=vms.VmState.stopped,
            desired_state=vms.DesiredState.stopped,
            host=host,
            host_id=self.hosts[host].id,
            ip=str(IPv4Address("10.0.0.10") + len(self.vms)),
            mac=names.mac_address(vm_id),
            image=wanted.image,
            vcpus=wanted.vcpus,
            memory_mib=wanted.memory_mib,
            disk_mib=wanted.disk_mib or 32,
            created_at=now(),
            tap=names.tap_name(vm_id),
            tags=wanted.tags,
            autostart=wanted.autostart,
            restart_policy=wanted.restart_policy,
            forwards=wanted.forwards,
            users=[user.name for user in wanted.users],
            rate_limits=wanted.rate_limits,
            network_config=wanted.network_config,
            volumes=[
                self._volume(f"vd{letter}", volume, wanted.name)
                for letter, volume in zip("bcdefghi", wanted.volumes, strict=False)
            ],
        )
        self.vms[vm.name] = vm
        self.user_data[vm.name] = wanted.user_data
        self.tell("vm", vm.id, vm.name, "Created", f"{vm.name} was created on {host} from {vm.image}.")
        return vm

    def _volume(self, device: str, volume: vms.VolumeCreate, vm: str) -> vms.Volume:
        if volume.name is None:
            return vms.Volume(device=device, size_mib=volume.size_mib or 16, keep=volume.keep)
        self.volumes[volume.name].vm = vm
        return vms.Volume(device=device, size_mib=self.volumes[volume.name].size_mib, keep=True, name=volume.name)

    def attach(self, vm: vms.Vm, wanted: vms.VolumeCreate) -> vms.Vm:
        if self.snapshots.get(vm.id):
            raise Refusal(
                409,
                "Not now",
                f"VM {vm.name} has 1 snapshot of its current volumes.",
                "NQR-API-128",
                "Delete its snapshots first: `nqr vm snapshot rm`.",
            )
        device = next(f"vd{letter}" for letter in "bcdefghi" if f"vd{letter}" not in {one.device for one in vm.volumes})
        made = self._volume(device, wanted, vm.name)
        made.change = "attaching"
        vm.volumes = sorted([*vm.volumes, made], key=lambda one: one.device)

        async def finish() -> None:
            await asyncio.sleep(0.6)
            made.change = None

        self._keep(finish())
        return vm

    def detach(self, vm: vms.Vm, device: str, data: str) -> vms.Vm:
        volume = next(one for one in vm.volumes if one.device == device)
        volume.change = "detaching"

        async def finish() -> None:
            await asyncio.sleep(0.6)
            vm.volumes = [one for one in vm.volumes if one is not volume]
            name = volume.kept_name(vm.name, vm.id)
            self.volumes.pop(name, None)
            if data == "keep":
                self.keep_volume(name, vm.host or "", volume.size_mib)

        self._keep(finish())
        return vm

    def keep_volume(self, name: str, host: str, size_mib: int) -> None:
        self.volumes[name] = volumes.StoredVolume(name=name, host=host, size_mib=size_mib, created_at=now())

    def add_template(self, name: str, description: str, **more: Any) -> None:
        self.templates[name] = templates.Template(name=name, description=description, created_at=now(), updated_at=now(), **more)

    def tell(
        self, kind: str, subject: str, name: str, reason: str, message: str, severity: str = "info", at: datetime | None = None
    ) -> None:
        self.events.insert(
            0,
            events.Event(
                id=len(self.events) + 1,
                at=at or now(),
                subject_kind=kind,
                subject_id=subject,
                subject_name=name,
                reason=reason,
                message=message,
                severity=severity,
            ),
        )

    def set(self, vm: vms.Vm, state: vms.VmState) -> None:
        vm.state = state
        if state is vms.VmState.running and vm.guest is None:
            vm.boot_id, vm.started_at, vm.guest_up_at = str(uuid.uuid4()), now(), now()
            vm.limits = vms.VmLimits(memory_mib=vm.memory_mib + 96, cpu_percent=100 * vm.vcpus + 50, tasks=256)
            vm.guest = vms.GuestReport(
                ip=vm.ip or "",
                boot_id=vm.boot_id,
                memory_total_kib=vm.memory_mib * 900,
                memory_available_kib=vm.memory_mib * 600,
                disk_total_kib=30000,
                disk_available_kib=22000,
                gateway="10.0.0.1",
                gateway_reachable=True,
                hostname=vm.name,
            )
            self.tell("vm", vm.id, vm.name, "Started", f"{vm.name} is running on {vm.host}.")
        if state is vms.VmState.stopped:
            vm.guest = vm.boot_id = vm.started_at = vm.guest_up_at = vm.limits = None
            self.tell("vm", vm.id, vm.name, "Stopped", f"{vm.name} has stopped.")

    def later(self, vm: vms.Vm, through: vms.VmState, to: vms.VmState, seconds: float = 0.6) -> None:
        vm.state = through

        async def turn() -> None:
            await asyncio.sleep(seconds)
            self.set(vm, to)

        self._keep(turn())

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.verbs.add(task)
        task.add_done_callback(self.verbs.discard)

    def report(self) -> None:
        """Let guests report plausible figures."""
        chosen = random.Random()
        for vm in self.vms.values():
            if vm.state is vms.VmState.running and vm.guest is not None and vm.started_at is not None:
                vm.guest.uptime_seconds = (now() - vm.started_at).total_seconds()
                vm.guest.cpu_percent = min(100.0, max(0.5, vm.guest.cpu_percent + chosen.uniform(-9, 10)))
                vm.guest.memory_available_kib = int(vm.memory_mib * chosen.uniform(540, 620))
                vm.guest.net_rx_bytes += chosen.randint(2_000, 90_000)
                vm.guest.net_tx_bytes += chosen.randint(1_000, 30_000)
        for host in self.hosts.values():
            if host.state is hosts.HostState.online:
                host.last_seen_at = now()


def furnish(world: World) -> None:
    """A platform with some history."""
    world.add_image("debian-12", "Debian 12 with systemd")
    world.add_image("builder", "Build machine", state="missing")
    world.add_host("kvm2", "kvm")
    world.add_host("lab", "tcg", hosts.HostState.degraded).last_seen_at = now() - timedelta(seconds=70)
    world.add_template(
        "web",
        "Web server",
        image="tiny",
        vcpus=2,
        memory_mib=512,
        tags=["web"],
        rate_limits=vms.RateLimits(net_tx_kbit=50_000),
        users=[
            vms.GuestAccount(
                name="ann", ssh_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc ann"]
            )
        ],
    )
    world.add_template(
        "database",
        "",
        image="debian-12",
        vcpus=4,
        memory_mib=4096,
        disk_mib=20480,
        volumes=[vms.EmptyVolume(size_mib=51200, keep=True)],
    )
    world.add_template("night", "Builds", image="builder", vcpus=8, memory_mib=3072)
    world.keep_volume("shop-vdb-7f3a", "kvm1", 20480)
    world.keep_volume("ledger-vdb-91c0", "kvm2", 102400)
    states = ["running", "running", "running", "paused", "stopped", "failed", "starting", "running"]
    plan = ["web1", "web2", "db1", "cache", "batch-old", "broken", "new", "build-7"]
    for name, state in zip(plan, states, strict=True):
        wanted = vms.VmCreate(
            name=name,
            image="debian-12" if name.startswith("db") else "tiny",
            vcpus=2,
            rate_limits=vms.RateLimits(net_rx_kbit=100_000, net_tx_kbit=50_000, disk_iops=2000),
            memory_mib=512,
            tags=["web"] if name.startswith("web") else [],
            forwards=[vms.PortForward(host_port=8080, guest_port=80)] if name == "web1" else [],
            volumes=[vms.VolumeCreate(size_mib=10240, keep=True)] if name in ("web1", "db1") else [],
            users=[
                vms.GuestUser(
                    name="ann", ssh_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc ann"]
                )
            ]
            if name == "web1"
            else [],
        )
        vm = world.add_vm(wanted)
        if state in ("running", "paused"):
            world.set(vm, vms.VmState.running)
        vm.state = vms.VmState(state)
        if state == "failed":
            vm.error = "The guest's kernel panicked three times in a minute."
            world.tell("vm", vm.id, vm.name, "Failed", f"{vm.name}: {vm.error}", "error")
    world.tell("host", "x", "lab", "HostDegraded", "Host lab has been silent for 30 s.", "warning")

"""A service in a temporary folder: real files, scopes and VMMs in memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nqrust.agent.disks.blobs import Blobs
from nqrust.agent.errors import Failed
from nqrust.agent.network.connections import Ends
from nqrust.agent.network.dhcp import Dhcp
from nqrust.agent.network.forwards import Forwards
from nqrust.agent.scopes import launch, quick
from nqrust.agent.scopes.port import Launch, Process, Scope
from nqrust.agent.settings import Network, Settings
from nqrust.agent.store import Store
from nqrust.agent.vmm.port import Capabilities, Machine, RunState
from nqrust.agent.vms.guests import GuestBook
from nqrust.agent.vms.service import VmService
from nqrust.agent.vms.starting import Parts
from nqrust.contract import names
from nqrust.contract.agent import ImageRef, TapStatus, VmSpec
from nqrust.contract.images import Blob
from nqrust.contract.vms import RateLimits
from nqrust.host.local import LocalHost
from nqrust.host.port import Connections, command

VM = "0b8f0c3e-5f0e-4a53-9f4e-6a1d2a8f7c11"


@pytest.fixture(autouse=True)
def passable(tmp_path: Path) -> None:
    """Users of VMs pass through the folders of the tests, which pytest makes for root alone."""
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder) == tempfile.gettempdir() or folder.stat().st_uid != os.geteuid():
            break
        folder.chmod(folder.stat().st_mode | 0o011)


@dataclass
class MemoryScopes:
    """Scopes that exist only here. A name is taken as long as it is in `alive`."""

    vms_dir: str
    alive: dict[str, Scope] = field(default_factory=dict)
    spawned: list[Launch] = field(default_factory=list)
    stubborn: bool = False
    next_pid: int = 4_000_001  # above pid_max: never a real process

    def all(self) -> dict[str, Scope]:
        return dict(self.alive)

    def get(self, vm_id: str) -> Scope | None:
        return self.alive.get(vm_id)

    def seen(self, vm_id: str) -> Scope | None:
        return self.get(vm_id)

    def vacant(self, vm_id: str) -> bool:
        return vm_id not in self.alive and quick.vacant(LocalHost(), f"{self.vms_dir}/{vm_id}")

    def spawn(self, launch: Launch) -> None:
        assert launch.vm_id not in self.alive, "a second VMM"
        self.spawned.append(launch)
        self.next_pid += 1
        self.alive[launch.vm_id] = Scope(launch.name, (Process(self.next_pid, "qemu-system-x86", 1_000.0),))

    def kill(self, vm_id: str, signal: int) -> None:
        self.alive.pop(vm_id, None)

    def tidy(self) -> None:
        pass


@dataclass
class MemoryVmm:
    """A VMM whose guest powers off when asked, unless it is deaf."""

    scopes: MemoryScopes
    name: str = "qemu"
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(frozenset({"kvm", "tcg"}), waits_for_room=True))
    exit_signals: dict[int, int] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    without_room: set[str] = field(default_factory=set)
    deaf: bool = False
    broken: bool = False
    asked: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    limited: list[tuple[int, RateLimits]] = field(default_factory=list)

    def argv(self, machine: Machine) -> tuple[str, ...]:
        return ("vmm", machine.disk)

    def prepare(self, machine: Machine) -> None:
        pass

    def mounts(self, machine: Machine) -> tuple[tuple[str, ...], ...]:
        return ()

    def appeared(self, directory: str) -> bool:
        return True

    def configure(self, machine: Machine) -> None:
        if self.broken:
            raise Failed("NQR-VMM-105", "It does not answer.", "Try again.")

    def begin(self, machine: Machine) -> None:
        self.begun.append(machine.id)

    def state(self, directory: str) -> RunState:
        if directory in self.without_room:
            return RunState.no_room
        return RunState.paused if directory in self.paused else RunState.running

    def shut_down(self, directory: str) -> None:
        self.asked.append(directory)
        if not self.deaf:
            self.scopes.alive.pop(directory.rpartition("/")[2], None)

    def limit(self, directory: str, volumes: int, limits: RateLimits) -> None:
        self.limited.append((volumes, limits))

    def connect_guest(self, directory: str) -> socket.socket:
        raise FileNotFoundError(directory)

    def pause(self, directory: str) -> None:
        if directory not in self.without_room:  # QEMU's `stop` changes nothing then
            self.paused.add(directory)

    def resume(self, directory: str) -> None:
        self.resumed.append(directory)
        self.paused.discard(directory)
        self.without_room.discard(directory)

    def snapshot(self, directory: str, folder: str, user: int, limit: int) -> None:
        assert directory in self.paused, "memory and disks must belong together"
        Path(folder, "memory").write_bytes(b"memory")

    def load(self, machine: Machine, folder: str) -> None:
        assert Path(folder, "memory").read_bytes() == b"memory"
        self.loaded.append(folder)


@dataclass
class MemoryTaps:
    links: dict[str, str] = field(default_factory=dict)  # name -> VM
    busy: set[str] = field(default_factory=set)
    limited: dict[str, RateLimits] = field(default_factory=dict)
    cannot: bool = False
    no_bridge: bool = False
    before_it_takes: Callable[[], object] = lambda: None

    def connected(self, name: str, vm_id: str) -> bool:
        return self.links.get(name) == vm_id

    def all(self) -> list[TapStatus]:
        return [TapStatus(name=n, vm_id=v, bridge="fcbr0", up=True) for n, v in self.links.items()]

    def get(self, name: str) -> TapStatus | None:
        return next((tap for tap in self.all() if tap.name == name), None)

    def make_way(self, name: str, vm_id: str) -> None:
        if self.no_bridge:
            raise Failed("NQR-NET-703", "The bridge is not there.", "Run `nqr doctor`.", status=503)
        self.links.pop(name, None)

    def admit(self) -> None:
        pass

    def take(self, name: str, vm_id: str, pid: int) -> None:
        assert pid > 4_000_000, "the process of the VMM"
        self.before_it_takes()
        self.links[name] = vm_id

    def limit(self, name: str, vm_id: str, limits: RateLimits) -> None:
        assert self.links[name] == vm_id
        if self.cannot:
            raise Failed("NQR-NET-708", "It cannot.", "Drop the limits.", status=422)
        self.limited[name] = limits

    def in_use(self, name: str) -> bool:
        return name in self.busy

    def remove(self, name: str, *, owner: str | None = None) -> None:
        self.links.pop(name, None)


class MemoryEnds(Ends):
    """What was to end stays in memory."""

    def end(self, *wanted: Connections) -> None:
        self.ended = [*getattr(self, "ended", ()), *wanted]


class MemoryForwards(Forwards):
    """Checks as the real one does; what is drawn stays in memory, and so do the ports in use."""

    drawn: tuple[tuple[str, int, int], ...] | list[tuple[str, int, int]] = ()
    listening: set[tuple[str, int]]

    def sync(self) -> bool:
        before = self.drawn
        self.drawn = [
            (record.id, port.host_port, port.guest_port)
            for record in self._records()
            if record.asked == "run"
            for port in record.forwards
        ]
        return before != self.drawn

    def _listening(self) -> set[tuple[str, int]]:
        return getattr(self, "listening", set())


@dataclass
class Bench:
    service: VmService
    scopes: MemoryScopes
    vmm: MemoryVmm
    taps: MemoryTaps
    forwards: MemoryForwards
    image: ImageRef
    root: Path

    def spec(self, vm_id: str = VM, **changes: object) -> VmSpec:
        values: dict[str, object] = {
            "id": vm_id,
            "name": "web1",
            "vcpus": 1,
            "memory_mib": 128,
            "disk_mib": 16,
            "image": self.image,
            "mac": names.mac_address(vm_id),
            "tap": names.tap_name(vm_id),
            "ip": "10.0.0.20",
            "guest_token": "token-1",
        }
        return VmSpec.model_validate({**values, **changes})

    def vm_dir(self, vm_id: str = VM) -> Path:
        return self.root / "fc" / "vms" / vm_id


def blob(path: Path) -> Blob:
    data = path.read_bytes()
    return Blob(file=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture
def make_ext4(tmp_path: Path) -> Callable[..., Path]:
    """An ext4 image made from a folder with /etc and /root."""

    def make(path: Path, mib: int = 8, prepare: Callable[[Path], None] | None = None) -> Path:
        tree = tmp_path / "tree"
        (tree / "etc").mkdir(parents=True, exist_ok=True)
        (tree / "etc" / "hostname").write_text("image\n")
        (tree / "root").mkdir(exist_ok=True)
        if prepare:
            prepare(tree)
        LocalHost().run(command("mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(path), f"{mib}M"))
        return path

    if LocalHost().which("mke2fs") is None or LocalHost().which("debugfs") is None:
        pytest.skip("e2fsprogs is not installed")
    return make


@pytest.fixture
def bench(tmp_path: Path, make_ext4: Callable[..., Path]) -> Bench:
    host = LocalHost()
    images, run = tmp_path / "images" / "tiny", tmp_path / "fc"
    images.mkdir(parents=True)
    (run / "vms").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    rootfs = make_ext4(images / "rootfs.ext4")
    (images / "vmlinuz").write_bytes(b"kernel")
    image = ImageRef(name="tiny", rootfs=blob(rootfs), kernel=blob(images / "vmlinuz"))
    settings = Settings(
        run_dir=str(run),
        image_root=str(tmp_path / "images"),
        state_dir=str(tmp_path / "state"),
        verdict_file=str(tmp_path / "vmm.json"),
        name="h1",
        network=Network(),
    )

    def fetch(name: str, wanted: Blob, path: str) -> None:
        raise Failed("NQR-IMG-101", "There is no manager here.", "Start one.")

    scopes, taps = MemoryScopes(settings.vms_dir), MemoryTaps()
    vmm = MemoryVmm(scopes)
    store = Store(host, settings.vms_dir)
    launch.prepare(host, settings)
    forwards = MemoryForwards(host, settings.network, store.all)
    forwards.connections = MemoryEnds(host)
    service = VmService(
        Parts(
            host=host,
            settings=settings,
            store=store,
            scopes=scopes,
            taps=taps,  # type: ignore[arg-type]
            dhcp=Dhcp(
                host,
                bridge="fcbr0",
                server="10.0.0.1",
                hosts_dir=str(tmp_path / "dhcp" / "hosts.d"),
                leases=str(tmp_path / "dhcp" / "leases"),
            ),
            blobs=Blobs(host, settings.image_root, f"{run}/images-cache", fetch, store.images),
            guests=GuestBook(store),
            drivers={"qemu": vmm},
            forwards=forwards,
        )
    )
    return Bench(service, scopes, vmm, taps, forwards, image, tmp_path)


class Cut(BaseException):
    """The agent is killed here."""


@contextmanager
def killed_at(nth: int, host: object, *names: str) -> Iterator[None]:
    """Kill the agent where the block calls one of these methods of `host` for the nth time."""
    steps = 0
    with pytest.MonkeyPatch.context() as patched:
        for name in names:
            real = getattr(host, name)

            def step(*arguments: Any, _real: Any = real, **options: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == nth:
                    raise Cut
                return _real(*arguments, **options)

            patched.setattr(host, name, step)
        with suppress(Cut):
            yield


NEEDS = ("screen", "tc")


@pytest.fixture(scope="session")
def image(tiny_image: Path) -> Path:
    """The folder of an image `tiny`, for VMs that really boot."""
    lacking = [program for program in NEEDS if shutil.which(program) is None]
    if lacking:
        pytest.skip(f"needs {' '.join(lacking)}")
    return tiny_image

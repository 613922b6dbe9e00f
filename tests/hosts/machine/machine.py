"""A test host: a pristine machine in seconds, thrown away afterwards."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.hosts.machine import changes, layer, nspawn, records
from tests.hosts.machine.base import Base, base
from tests.hosts.machine.inside import Inside
from tests.hosts.machine.network import TestNetwork
from tests.hosts.machine.outside import OutsideError, Process, outside
from tests.hosts.machine.result import MachineError

_live: weakref.WeakSet[Machine] = weakref.WeakSet()


class Snapshot:
    """A host's disk at a moment: read-only layers, newest first. Lives as long as the Machine that made it."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self.layers = tuple(layers)


class Machine(Inside):
    """A Debian host under systemd-nspawn over overlayfs. Use as a context manager.

    `systemd`: False gives a machine whose PID 1 is not systemd. `unified`: it sees control groups of version 2 alone, as
    most servers do (without the controllers that the testing machine has in version 1). `network`: share one to put several hosts on one
    bridge; without it the host gets its own. `snapshot`: start from another host's disk instead of a pristine one.
    `primed`: with the shared package and pip caches, and without waiting for the disk (faster; off for benchmarks).

    Memory and processors are the testing machine's own. Everything made outside is taken back by `close`, at exit,
    or by the next run.
    """

    def __init__(
        self, *, suite: str = "bookworm", systemd: bool = True, network: TestNetwork | None = None,
        snapshot: Snapshot | None = None, primed: bool = True, start: bool = True, packages: tuple[str, ...] = (),
        unified: bool = False,
    ) -> None:  # fmt: skip
        records.reap()
        owner = Process.of(os.getpid())
        assert owner is not None
        self.systemd, self.suite, self.primed, self.unified = systemd, suite, primed, unified
        self.base: Base = base(suite, packages) if packages else base(suite)
        self._lock = self.base.lock.open("a")
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._own_network = network is None
        self.network = network or TestNetwork()
        self.number = self.network.next_host()
        self.name = f"h{self.network.number}-{self.number}"
        self.link = f"vb-{self.name}"
        """The outer end of the host's network card."""
        self._record = records.Record(
            f"host-{self.name}-{secrets.token_hex(3)}", owner, links=[self.link], cgroup=f"{records.CGROUP_BASE}/{self.name}"
        )
        self.folder = records.run_folder() / self._record.name
        self._record.folder = str(self.folder)
        self._record.mounts = [str(self.folder / "merged")]
        self._record.save()
        _live.add(self)
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader: Process | None = None
        self._generation = 0
        try:
            for name in ("merged", "plumbing", "layers"):
                (self.folder / name).mkdir(parents=True)
            self._binds = layer.build_layer(
                self.folder / "plumbing", name=self.name, address=self.address, gateway=self.network.gateway,
                suite=suite, primed=primed,
            )  # fmt: skip
            self._frozen: tuple[Path, ...] = snapshot.layers if snapshot else ()
            self._new_upper()
            self._mount()
            if start:
                self.boot()
        except BaseException:
            self.close()
            raise

    # --- identity

    @property
    def address(self) -> str:
        """The host's IPv4 address, which the testing machine and hosts of the same network can reach."""
        return self.network.address(self.number)

    @property
    def leader(self) -> Process | None:
        """The host's PID 1 as seen from outside, or None while it is off."""
        return self._leader if self._leader and self._leader.alive else None

    @property
    def running(self) -> bool:
        return self.leader is not None

    @property
    def root(self) -> Path:
        return self.folder / "merged"

    @property
    def console(self) -> str:
        """What the host wrote to its console since it was made."""
        return (self.folder / "console.log").read_text(errors="replace")

    # --- power

    def boot(self, timeout: float = 60.0) -> None:
        """Switch on and wait until the system is up (or, without systemd, until commands can run)."""
        if self.running:
            return
        options = [*self._binds, *layer.device_nodes(self.folder / "dev")]
        console = self.folder / "console.log"
        self._nspawn = nspawn.launch(
            self.root, name=self.name, bridge=self.network.bridge, systemd=self.systemd, unified=self.unified, options=options,
            cgroup_files=records.make_cgroup(self._record.cgroup), console=console,
        )  # fmt: skip
        started = Process.of(self._nspawn.pid)
        self._remember(started)
        self._leader = nspawn.leader_of(self._nspawn, systemd=self.systemd, console=console)
        self._remember(started, self._leader)
        if self.systemd:
            self.wait_until_up(timeout)
        else:
            self.run("echo 0 > /proc/sys/net/ipv4/ip_forward; ip link set lo up; ip address replace $ADDRESS/24 dev host0; ip link set host0 up;"
                     "ip route replace default via $GATEWAY",
                     env={"ADDRESS": self.address, "GATEWAY": self.network.gateway})  # fmt: skip

    def _remember(self, *processes: Process | None) -> None:
        self._record.processes = [process for process in processes if process]
        self._record.save()

    def wait_until_up(self, timeout: float = 60.0) -> None:
        """Wait until systemd has started everything. Raises MachineError with the console's end."""
        deadline = time.monotonic() + timeout
        state = ""
        while time.monotonic() < deadline and self.running:
            state = self.run(["systemctl", "is-system-running"], check=False, timeout=20).stdout.strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.05)
        raise MachineError(f"{self.name} is {state or 'down'} {timeout:g} s after it was started:\n{self.console[-3000:]}")

    def shutdown(self, timeout: float = 90.0) -> None:
        """Switch off in good order: services are stopped, then the machine ends."""
        if self.running and self.systemd and self._nspawn:
            self.run(["systemctl", "--no-block", "poweroff"], check=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(timeout)
        elif self.running:
            # Without an init nobody else would tell the services.
            self.run(
                "kill -TERM -1; for i in $(seq 50); do [ $(ls -d /proc/[0-9]* | wc -l) -le 5 ] && exit; sleep 0.1; done",
                check=False,
            )
        self._end()

    def reboot(self) -> None:
        """Shut down in good order and boot again on the same disk."""
        self.shutdown()
        self.boot()

    def wait_for_reboot(self, timeout: float = 120.0) -> None:
        """After something inside asked for a reboot: wait for the host to go down, and boot it again."""
        if self._nspawn:
            try:
                self._nspawn.wait(timeout)
            except subprocess.TimeoutExpired:
                raise MachineError(f"{self.name} did not go down within {timeout:g} s") from None
            self._end()
        self.boot()

    def power_cut(self, *, boot: bool = True) -> None:
        """End every process at once (SIGKILL of PID 1), then boot again on the same disk unless `boot` is False.

        What a process had written but not fsynced survives, unlike in a real power loss.
        """
        self._end()
        if boot:
            self.boot()

    def _end(self) -> None:
        recorded = self._record.processes
        records.end_processes(recorded[1:], "")  # PID 1 of the host first, so that nspawn can tidy up
        if self._nspawn:
            try:
                self._nspawn.wait(10)  # it takes the network card away and reports the end
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait(10)
        records.end_processes(recorded, self._record.cgroup)
        outside("ip", "link", "delete", self.link, check=False)
        self._nspawn = self._leader = None
        self._remember()

    # --- disk

    @property
    def upper(self) -> Path:
        """The writable layer: what the host has written since it was made or since the last snapshot."""
        return self.folder / "layers" / f"{self._generation}" / "upper"

    @property
    def upper_directory(self) -> list[changes.Change]:
        """Every path written, changed or removed since then, as the host sees it."""
        return self.changes()

    def mark(self) -> changes.Mark:
        """Remember the disk's state now, for `changes(since=...)`."""
        return changes.mark(self.upper)

    def changes(self, since: changes.Mark | None = None) -> list[changes.Change]:
        """What was written since the host was made (or since a mark), with removals."""
        return changes.changes(self.upper, self._lowers(), since)

    def _lowers(self) -> list[Path]:
        return [*self._frozen, self.folder / "plumbing", self.base.tree]

    def _new_upper(self) -> None:
        self._generation += 1
        self.upper.mkdir(parents=True)
        self.upper.chmod(0o755)
        (self.upper.parent / "work").mkdir()

    def _mount(self) -> None:
        # redirect_dir: without it rename(2) of a directory from a lower layer fails with EXDEV, which no real disk does.
        options = (
            f"lowerdir={':'.join(map(str, self._lowers()))},upperdir={self.upper},workdir={self.upper.parent / 'work'},"
            "redirect_dir=on,index=off,metacopy=off"
        )
        if self.primed:
            # No waiting for the disk at fsync(2): a killed host keeps its page cache, and the disk is thrown away.
            options += ",volatile"
        outside("mount", "-t", "overlay", "-o", options, f"nqr-{self.name}", str(self.root))

    def snapshot(self) -> Snapshot:
        """Freeze the disk as it is: shuts down in good order first and boots again when the host was running.

        Nothing is copied; the writable layer becomes read-only and a new one is put on top.
        """
        was_running = self.running
        if was_running:
            self.shutdown()
        records.unmount(str(self.root))
        layer.harvest_archives(self.upper, self.suite)
        self._frozen = (self.upper, *self._frozen)
        self._new_upper()
        self._mount()
        if was_running:
            self.boot()
        return Snapshot(self._frozen)

    def restore(self, snapshot: Snapshot, *, boot: bool = True) -> None:
        """Throw away what was written since the snapshot: a power cut, then a boot on the old disk."""
        self._end()
        records.unmount(str(self.root))
        shutil.rmtree(self.upper.parent, ignore_errors=True)
        self._frozen = snapshot.layers
        self._new_upper()
        self._mount()
        if boot:
            self.boot()

    # --- network

    def cut_network(self) -> None:
        """Take the host off its bridge: packets are lost silently, the card keeps its carrier."""
        outside("ip", "link", "set", self.link, "nomaster")

    def join_network(self) -> None:
        """Put it back on its bridge."""
        outside("ip", "link", "set", self.link, "master", self.network.bridge)
        outside("ip", "link", "set", self.link, "up")

    # --- the end

    def close(self) -> None:
        """End the host and take everything back. Safe to repeat."""
        if self._record.path.exists():
            with contextlib.suppress(OutsideError):
                self._end()
            records.unmount(str(self.root))
            if self._generation:
                layer.harvest_archives(self.upper, self.suite)
            self._record.undo()
        self._lock.close()
        if self._own_network:
            self.network.remove()
        _live.discard(self)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@atexit.register
def _close_all() -> None:
    for machine in list(_live):
        if machine._record.owner.pid == os.getpid():
            with contextlib.suppress(Exception):
                machine.close()

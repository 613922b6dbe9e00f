"""Resource limits of one VM, and reading those in force from the kernel. cgroups(7), systemd.resource-control(5).

The kernel must not kill a guest that uses all of its memory, so the limit adds the VMM's own need. A VMM that leaks memory
hits its limit before the host runs out.
"""

from __future__ import annotations

from dataclasses import dataclass

from nqrust.contract.vms import VmLimits
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command

MIB = 1 << 20
_ROOT = "/sys/fs/cgroup"
_PERIOD = 100_000  # microseconds, the kernel's default
_UNLIMITED = 1 << 60  # bytes: version 1 writes "no limit" as the largest page-aligned number

_QEMU_MIB = 256
_TCG_MIB = 1024  # the cache of translated code: default 1 GiB
_FIRECRACKER_MIB = 128
_PAGE_TABLES = 64  # a 64th of the guest's memory: page tables (8 bytes a page, twice under KVM) and dirty bitmaps
TASKS = 256  # QEMU's pool for disk I/O grows to 64 threads; terminal and launcher are a few more
_LEFT_PERCENT = 20  # percent of one CPU, reserved for the host


@dataclass(frozen=True)
class Limits:
    """`memory_mib` of the whole scope; `cpu_percent` of one CPU; `tasks`: processes and threads."""

    memory_mib: int
    cpu_percent: int
    tasks: int


def of_vm(*, vcpus: int, memory_mib: int, vmm: str, accel: str, cpus: int) -> Limits:
    """Return the limits of a VM on a host with `cpus` CPUs. Pure."""
    own = _FIRECRACKER_MIB if vmm == "firecracker" else _QEMU_MIB + (_TCG_MIB if accel == "tcg" else 0)
    return Limits(
        memory_mib=memory_mib + memory_mib // _PAGE_TABLES + own,
        cpu_percent=min(vcpus * 100 + 50, cpus * 100 - _LEFT_PERCENT),
        tasks=TASKS + 4 * vcpus,
    )


def properties(limits: Limits | None) -> tuple[str, ...]:
    """Return properties for systemd-run(1)."""
    if limits is None:
        return ()
    return (
        "-p",
        f"MemoryMax={limits.memory_mib}M",
        "-p",
        f"CPUQuota={limits.cpu_percent}%",
        "-p",
        f"TasksMax={limits.tasks}",
    )


def in_force(host: Host, pid: int) -> VmLimits | None:
    """Return the limits that the kernel enforces on process `pid`, from its control group, or None without limits."""
    folders = _folders(host, str(pid))
    found = VmLimits(
        memory_mib=_memory(host, folders), cpu_percent=_cpu(host, folders), tasks=_number(host, folders.get("pids"), "pids.max")
    )
    return found if found != VmLimits() else None


def parse_cgroup(text: str) -> dict[str, str]:
    """Parse /proc/PID/cgroup: controller -> path; "" for the unified hierarchy. Pure."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(","):
            found[controller] = f"{controllers}\t{path}" if controllers else path
    return found


def _folders(host: Host, process: str) -> dict[str, str]:
    """Return controller -> folder of the process's control group."""
    try:
        groups = parse_cgroup(host.read_text(f"/proc/{process}/cgroup"))
    except HostError:
        return {}
    unified = _ROOT if host.exists(f"{_ROOT}/cgroup.controllers") else f"{_ROOT}/unified"
    found: dict[str, str] = {}
    for controller in ("memory", "cpu", "pids"):
        if controller in groups:
            hierarchy, _, path = groups[controller].partition("\t")
            found[controller] = f"{_ROOT}/{hierarchy}{path.rstrip('/')}"
        elif "" in groups:
            found[controller] = f"{unified}{groups[''].rstrip('/')}"
    return found


def _memory(host: Host, folders: dict[str, str]) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        value = _number(host, folders.get("memory"), name)
        if value is not None:
            return value // MIB if value < _UNLIMITED else None
    return None


def _cpu(host: Host, folders: dict[str, str]) -> int | None:
    folder = folders.get("cpu")
    both = _text(host, folder, "cpu.max").split()
    if len(both) == 2 and both[0].isdigit():
        return int(both[0]) * 100 // int(both[1])
    quota, period = _number(host, folder, "cpu.cfs_quota_us"), _number(host, folder, "cpu.cfs_period_us")
    return quota * 100 // period if quota and period else None


def _number(host: Host, folder: str | None, name: str) -> int | None:
    text = _text(host, folder, name)
    return int(text) if text.isdigit() else None


def _text(host: Host, folder: str | None, name: str) -> str:
    try:
        return host.read_text(f"{folder}/{name}").strip() if folder else ""
    except HostError:
        return ""


# --- without systemd


def make_groups(host: Host, name: str, limits: Limits) -> list[str]:
    """Create groups `name` with the limits below this process's own, if the machine allows it.

    Returns the `cgroup.procs` files through which a process joins. Version 2 lets only the root group have both processes and
    limited groups below it.
    """
    joined = []
    for controller, own in _folders(host, "self").items():
        folder = f"{own}/{name}"
        try:
            if not host.exists(f"{own}/cgroup.procs"):
                continue
            if host.exists(f"{own}/cgroup.subtree_control"):
                _write(host, f"{own}/cgroup.subtree_control", f"+{controller}")
            if not host.exists(folder):
                host.mkdir(folder)
            for file, value in _values(controller, limits):
                if host.exists(f"{folder}/{file}"):
                    _write(host, f"{folder}/{file}", value)
        except HostError:
            continue  # no limit here: the limits in force are read back and reported
        if f"{folder}/cgroup.procs" not in joined:
            joined.append(f"{folder}/cgroup.procs")
    return joined


def kill_group(host: Host, pid: int, name: str) -> bool:
    """Kill everything in the control group `name` of process `pid`, with one write. Returns whether the kernel can do that and
    the process is in such a group: cgroup.kill of version 2, since Linux 5.14. cgroups(7)."""
    try:
        path = parse_cgroup(host.read_text(f"/proc/{pid}/cgroup")).get("", "")
        for top in (_ROOT, f"{_ROOT}/unified"):
            kill = f"{top}{path}/cgroup.kill"
            if path.rpartition("/")[2] in (name, f"{name}.scope") and host.exists(kill):
                _write(host, kill, "1")
                return True
    except HostError:
        pass  # it ended meanwhile
    return False


def remove_empty_groups(host: Host, prefix: str) -> None:
    """Remove empty groups. The kernel refuses while a process is in one."""
    for own in set(_folders(host, "self").values()):
        for folder in host.glob(f"{own}/{prefix}*"):
            try:
                host.rmdir(folder)
            except HostError:
                continue


def _values(controller: str, limits: Limits) -> tuple[tuple[str, str], ...]:
    size, quota = str(limits.memory_mib * MIB), str(limits.cpu_percent * _PERIOD // 100)
    return {
        "memory": (("memory.max", size), ("memory.limit_in_bytes", size)),
        "cpu": (("cpu.max", f"{quota} {_PERIOD}"), ("cpu.cfs_quota_us", quota)),
        "pids": (("pids.max", str(limits.tasks)),),
    }[controller]


def _write(host: Host, path: str, value: str) -> None:
    """Write in place: a kernel file cannot be replaced by renaming."""
    host.run(command("tee", path, input=f"{value}\n".encode(), timeout=10))

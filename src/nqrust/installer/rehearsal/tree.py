"""The clone's file system: overlays over the host's file systems, and the clone's own kernel file systems (mount(2)). It
mounts sysfs and cgroups in the clone's namespaces."""

from __future__ import annotations

import contextlib
import os
import stat

from nqrust.host import namespaces as ns
from nqrust.host.mounts import MOUNTINFO, parse_mountinfo
from nqrust.installer.rehearsal.reaching import mounted, name_of, reached
from nqrust.installer.rehearsal.spec import CONTROL, CloneMount, CloneSpec
from nqrust.installer.rehearsal.uppers import Layer

_OVERLAY = "redirect_dir=on,index=off,metacopy=off"
_KEPT = {"nosuid": ns.MS_NOSUID, "noexec": ns.MS_NOEXEC}
"""Flags of the host's mounts that hold in the clone: a user may have mounted it (fusermount)."""
_NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_OWN_NODES = ("kvm", "net/tun", "vhost-net", "vhost-vsock")
_HIDDEN = ("/proc/sysrq-trigger", "/proc/kcore", "/proc/acpi", "/proc/irq", "/proc/bus", "/proc/fs")


def cover(spec: CloneSpec) -> tuple[str, list[Layer], list[str]]:
    """Mount the overlays below the scratch folder, in this process's own mount namespace.

    Returns the clone's root, its layers and the omitted mount points. Raises OSError if mounting the root fails.
    """
    if spec.memory_mib:
        ns.mount("nqr-rehearsal", spec.scratch, "tmpfs", ns.MS_NODEV, f"size={spec.memory_mib}m,mode=0700")
    root = f"{spec.scratch}/root"
    os.mkdir(root, 0o755)
    os.mkdir(f"{spec.scratch}/control", 0o700)
    layers: list[Layer] = []
    failed: list[str] = []
    for number, one in enumerate(spec.mounts):
        try:
            layer = _cover(one, root, f"{spec.scratch}/{number}")
        except OSError:
            if one.path == "/":
                raise
            failed.append(one.path)
            continue
        if layer is not None:
            layers.append(layer)
    return root, layers, failed


def _cover(one: CloneMount, root: str, folder: str) -> Layer | None:
    """Raises OSError, also if the file system is no longer there: nqr looked at the mounts before."""
    below = f"{folder}/lower"
    with mounted(one.path, one.fstype) as (source, mount), reached(root, one.path) as target:
        os.mkdir(folder, 0o700)
        flags = ns.MS_NODEV | sum(flag for name, flag in _KEPT.items() if name in mount.options)
        there = os.fstat(source)
        if stat.S_ISDIR(there.st_mode):
            os.mkdir(below, 0o700)
        else:
            os.close(os.open(below, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # In the scratch folder, no user can put something else in its place.
        ns.bind(name_of(source), below)
        ns.mount("", below, flags=ns.MS_BIND | ns.MS_REMOUNT | ns.MS_RDONLY | flags)
        if one.form == "bind":
            ns.bind(below, name_of(target))  # with the flags
            return None
        upper, work = f"{folder}/upper", f"{folder}/work"
        os.mkdir(upper)
        os.mkdir(work)
        os.chown(upper, there.st_uid, there.st_gid)
        os.chmod(upper, stat.S_IMODE(there.st_mode))
        lower = below.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
        data = f"lowerdir={lower},upperdir={upper},workdir={work},{_OVERLAY}"
        try:  # volatile: no waits for the disk, because the layer is temporary (Linux 5.10)
            ns.mount("nqr-rehearsal", name_of(target), "overlay", flags, data + ",volatile")
        except OSError:
            ns.mount("nqr-rehearsal", name_of(target), "overlay", flags, data)
    return Layer(one.path, below, upper)


def enter(spec: CloneSpec, root: str) -> None:
    """Mount the clone's own file systems and make `root` the root. Must run as PID 1 of the clone."""
    kernels = _cgroup_mounts()
    ns.mount("proc", f"{root}/proc", "proc", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)
    _protect_proc(f"{root}/proc")
    ns.mount("sysfs", f"{root}/sys", "sysfs", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC | ns.MS_RDONLY)
    for path, fstype, data in kernels:
        with contextlib.suppress(OSError):
            _cgroups(root, path, fstype, data, read_only=not spec.boot)
    _devices(f"{root}/dev")
    ns.mount("tmpfs", f"{root}/run", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=0755")
    os.makedirs(root + CONTROL, 0o700)
    ns.bind(f"{spec.scratch}/control", root + CONTROL)
    if not spec.memory_mib:  # its own layers inside itself would be a loop
        ns.mount("tmpfs", root + spec.scratch, "tmpfs", ns.MS_RDONLY, "size=4k")
    _resolver(spec, root)
    ns.become_root(root)


def _cgroup_mounts() -> list[tuple[str, str, str]]:
    """Return (mount point, type, data) of the host's control group hierarchies. A new mount of each in a new cgroup namespace
    shows only the clone's part."""
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    options = {line.split(" ")[0]: line.rsplit(" ", 1)[1] for line in text.splitlines()}
    found = []
    for mount in parse_mountinfo(text):
        if not mount.mount_point.startswith("/sys/fs/cgroup"):
            continue
        if mount.fstype == "tmpfs":
            found.append((mount.mount_point, "tmpfs", "mode=0755"))
        elif mount.fstype == "cgroup2":
            found.append((mount.mount_point, "cgroup2", ""))
        elif mount.fstype == "cgroup":
            names = [n for n in options[str(mount.mount_id)].split(",") if n not in ("rw", "ro") and "=" not in n]
            named = [n for n in options[str(mount.mount_id)].split(",") if n.startswith("name=")]
            # The clone may write only systemd's named hierarchy: the controllers' groups are the host's.
            found.append((mount.mount_point, "cgroup", ",".join(["none", *named] if named else names)))
    return found


def _cgroups(root: str, path: str, fstype: str, data: str, *, read_only: bool) -> None:
    os.makedirs(root + path, exist_ok=True)
    flags = ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC
    ns.mount(fstype, root + path, fstype, flags, data)
    if fstype != "tmpfs" and (read_only or (fstype == "cgroup" and "name=" not in data)):
        ns.mount("", root + path, flags=ns.MS_BIND | ns.MS_REMOUNT | ns.MS_RDONLY | flags)


def _protect_proc(proc: str) -> None:
    """Make kernel parameters outside the network namespace read-only, because they belong to the host. Does the same with
    other controls."""
    ns.bind(f"{proc}/sys", f"{proc}/sys")
    ns.bind(f"{proc}/sys/net", f"{proc}/sys/net")
    flags = ns.MS_BIND | ns.MS_REMOUNT | ns.MS_RDONLY | ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC
    # The bind of `net` is on top and stays writable.
    ns.mount("", f"{proc}/sys", flags=flags)
    for path in _HIDDEN:
        target = proc + path.removeprefix("/proc")
        if os.path.exists(target):
            with contextlib.suppress(OSError):
                ns.bind(target, target)
                ns.mount("", target, flags=flags)


def _devices(dev: str) -> None:
    """Create the clone's own nodes, so that the install does not change mode and group of the host's nodes."""
    there = {name: os.stat(f"/dev/{name}") for name in _OWN_NODES if os.path.exists(f"/dev/{name}")}
    ns.mount("tmpfs", dev, "tmpfs", ns.MS_NOSUID, "mode=0755,size=4m")
    for name, major, minor in _NODES:
        _node(f"{dev}/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
    _node(f"{dev}/console", stat.S_IFCHR | 0o600, os.makedev(1, 3))  # nobody reads this output
    for folder, mode in (("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777), ("net", 0o755)):
        os.mkdir(f"{dev}/{folder}")
        os.chmod(f"{dev}/{folder}", mode)
    for name, found in there.items():
        _node(f"{dev}/{name}", found.st_mode, found.st_rdev)
        os.chown(f"{dev}/{name}", found.st_uid, found.st_gid)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
                         ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx")):  # fmt: skip
        os.symlink(target, f"{dev}/{name}")
    ns.mount("devpts", f"{dev}/pts", "devpts", ns.MS_NOSUID | ns.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    ns.mount("tmpfs", f"{dev}/shm", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=1777")


def _node(path: str, mode: int, device: int) -> None:
    os.mknod(path, mode, device)
    os.chmod(path, stat.S_IMODE(mode))


def _resolver(spec: CloneSpec, root: str) -> None:
    """Write resolv.conf. If the host's is a link into /run, create the target there. Otherwise write it only if it differs
    from the host's."""
    path = "/etc/resolv.conf"
    target = os.path.realpath(path)
    if not spec.resolver:
        return
    if target.startswith(("/run/", "/var/run/")):
        target = target.removeprefix("/var")
        os.makedirs(os.path.dirname(root + target), exist_ok=True)
    elif not spec.loopback_resolver:
        return
    folder, name = os.path.split(target)
    with reached(root, folder) as at:
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=at)
    with open(opened, "w", encoding="utf-8") as file:
        file.write(spec.resolver)

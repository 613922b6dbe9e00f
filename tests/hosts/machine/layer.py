"""The thin read-only layer between a base tree and a host's own writes: name, address, resolver, caches.

Because it lies below the writable layer, none of it counts as something the product has written.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.hosts.machine import settings
from tests.hosts.machine.outside import cache_root

_NETWORK_UNIT = """\
[Unit]
Description=Address of this test host, as its provider would have configured it
DefaultDependencies=no
After=systemd-remount-fs.service
Before=systemd-sysctl.service network-pre.target network.target network-online.target sysinit.target
ConditionPathExists=/sys/class/net/host0

[Service]
Type=oneshot
RemainAfterExit=yes
# A new network namespace takes this over from the testing machine, which forwards for its test networks.
ExecStart=/bin/sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'
ExecStart=/bin/ip link set lo up
ExecStart=/bin/ip address replace {address}/24 dev host0
ExecStart=/bin/ip link set host0 up
ExecStart=/bin/ip route replace default via {gateway}
"""


def build_layer(folder: Path, *, name: str, address: str, gateway: str, suite: str, primed: bool) -> list[str]:
    """Fill `folder`; returns nspawn's bind options that go with it.

    `primed` adds the packages that earlier hosts of this suite downloaded (apt takes them from its archive folder when
    their checksums fit) and a pip cache shared by all hosts.
    """

    def put(path: str, text: str) -> None:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    put("etc/hostname", f"{name}\n")
    put("etc/hosts", f"127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n")
    put("etc/resolv.conf", settings.resolver())
    if address:
        put("usr/lib/systemd/system/test-host-network.service", _NETWORK_UNIT.format(address=address, gateway=gateway))
        wants = folder / "usr/lib/systemd/system/sysinit.target.wants"
        wants.mkdir(parents=True)
        (wants / "test-host-network.service").symlink_to("../test-host-network.service")
    pip, indexes = settings.pip_configuration()
    apt = settings.apt_configuration()
    if apt:
        put("etc/apt/apt.conf.d/90testing-machine", apt)
    binds = []
    for source, inside in indexes.items():
        target = folder / inside.lstrip("/")
        if os.path.isdir(source):
            target.mkdir(parents=True)
        else:
            put(inside.lstrip("/"), "")
        binds.append(f"--bind-ro={source}:{inside}")
    cache = f"{settings.PLUMBING}/pip-cache"
    (folder / cache.lstrip("/")).mkdir(parents=True)
    if primed:
        shared = cache_root() / "pip"
        shared.mkdir(parents=True, exist_ok=True)
        binds.append(f"--bind={shared}:{cache}")
        archives = folder / "var/cache/apt/archives"
        archives.mkdir(parents=True)
        for package in archive_cache(suite).glob("*.deb"):
            os.link(package, archives / package.name)
    else:
        pip = "".join(line for line in pip.splitlines(keepends=True) if not line.startswith("cache-dir"))
    put("etc/pip.conf", pip)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    return binds


def archive_cache(suite: str) -> Path:
    """Folder of packages that hosts of one suite have downloaded so far."""
    folder = cache_root() / "apt" / suite
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def harvest_archives(written: Path, suite: str) -> None:
    """Keep the packages that a host (switched off) downloaded, found in its writable layer, for the next one."""
    cache = archive_cache(suite)
    for package in (written / "var/cache/apt/archives").glob("*.deb"):
        if package.is_file() and not package.is_symlink() and not (cache / package.name).exists():
            draft = cache / f".{package.name}.{os.getpid()}"
            shutil.copy2(package, draft)
            draft.rename(cache / package.name)


def device_nodes(folder: Path) -> list[str]:
    """nspawn options that give a host /dev/kvm and /dev/net/tun of its own, where the testing machine has them.

    Own nodes, not the machine's: a host that sets mode and group of its /dev/kvm must not change everybody's.
    """
    options = []
    folder.mkdir(parents=True, exist_ok=True)
    for device, node in (("/dev/kvm", "kvm"), ("/dev/net/tun", "tun")):
        if os.path.exists(device):
            made = folder / node
            if not made.exists():
                there = os.stat(device)
                os.mknod(made, there.st_mode, there.st_rdev)
                os.chmod(made, 0o600 if node == "kvm" else 0o666)
            options.append(f"--bind={made}:{device}")
    return options

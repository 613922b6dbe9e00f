"""The root file system of image `container-runtime`: a minimal Debian with podman and crun, which boots like `tiny`.

mmdebstrap(1) creates the Debian. nqr adds busybox as init, the guest agent, DHCP, the login on the serial console and the
kernel modules that containers need.
"""

from __future__ import annotations

import shlex

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image import applets, ext4, fixed_times, initrd, resources
from nqrust.image.container_packages import SUITE, Repository, Selection
from nqrust.image.errors import ImageError
from nqrust.image.kernel import GuestFiles
from nqrust.image.progress import Progress

SELECTION = Selection(
    required=("busybox-static", "ca-certificates", "crun", "iptables", "podman"),
    choices=(
        (("netavark", "aardvark-dns"), ("containernetworking-plugins",)),  # podman 4 and later; earlier ones
        (("usr-is-merged",),),  # instead of usrmerge, which would bring perl
    ),
)
MODULES = ("overlay", "veth", "bridge", "nf_tables")
# Modules for the rules of netavark and CNI, and the devices of rootless and VPN containers.
OPTIONAL_MODULES = (
    "br_netfilter",
    "nft_compat",
    "nft_chain_nat",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_reject_inet",
    "nft_fib_inet",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_multiport",
    "xt_nat",
    "xt_tcpudp",
    "xt_MASQUERADE",
    "ip_tables",
    "fuse",
    "tun",
    "dummy",
)
HEADROOM_MIB = 256  # for a first container image; the disk of a VM grows to its requested size
_DROPPED = ("man", "info", "locale", "lintian", "doc/*")
_MERGE = 'for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d" && ln -s "usr/$d" "$1/$d" || exit; done'
_OURS = {
    "rcS": "container/rcS",
    "login": "container/login",
    "rcK": "tiny/rcK",
    "agent": "tiny/agent",
    "dhcp": "tiny/dhcp",
    "acpi": "tiny/acpi",
    "udhcpc": "tiny/udhcpc-script",
    "power-off": "tiny/power-off",
}
_FILES = {
    "etc/hostname": "container-runtime\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/securetty": "ttyS0\n",
    "etc/resolv.conf": "",
    "etc/apt/sources.list": "# Name the sources that this guest may use, see sources.list(5).\n",
}
_LEFT = (
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "var/log/dpkg.log",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/machine-id",
)
_CNI_EXAMPLE = "/etc/cni/net.d/87-podman-bridge.conflist"  # podman warns about plugins named here
# Fixed, so that the same packages give the same bytes.
_IDS = ext4.Ids("6e717275-7374-4d56-8000-636f6e740001", "6e717275-7374-4d56-8000-636f6e740002")


def debian(host: Host, root: str, repository: Repository, tell: Progress) -> None:
    """Create the Debian in the folder `root`, which must not exist yet. Raises ImageError NQR-IMG-021."""
    options = [
        "--mode=root",
        "--variant=essential",
        "--architectures=amd64",
        # Only root can read the folder of the repository.
        '--aptopt=APT::Sandbox::User "root"',
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _DROPPED),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        f"--setup-hook={_MERGE}",
        f"--include={','.join(repository.include)}",
    ]
    # mmdebstrap before 0.8 (Debian 11) runs apt inside the new root for all but the essential packages.
    folder, parent = shlex.quote(repository.folder), repository.folder.rpartition("/")[0]
    options += [
        f'--setup-hook=mkdir -p "$1"{folder} && cp -a {folder}/. "$1"{folder}',
        f'--customize-hook=rm -rf "$1"{folder} && cd "$1" && rmdir -p --ignore-fail-on-non-empty .{shlex.quote(parent)}',
    ]
    try:
        host.run(
            command("mmdebstrap", *options, SUITE, root, repository.source, env=fixed_times.VARIABLES, timeout=3600),
            on_line=lambda line: tell(line.removeprefix("I: ").strip(), None),
        )
    except HostError as error:
        raise ImageError(
            "NQR-IMG-021",
            f"The Debian of the container runtime image could not be made: {error}.",
            "Check the free space and that root may mount and make devices here (containers often forbid it), then run again.",
        ) from error


def complete(host: Host, root: str, files: GuestFiles, guest_agent: str) -> None:
    """Add nqr's files to the Debian in `root`. Raises ImageError NQR-IMG-005."""
    for name in _LEFT:
        host.remove(f"{root}/{name}")
    # The package repository was below one of these during the build, and its removal also removed empty folders.
    for name, mode in (("var", 0o755), ("var/cache", 0o755), ("var/tmp", 0o1777)):
        if not host.exists(f"{root}/{name}"):
            host.mkdir(f"{root}/{name}", mode=mode)
        host.set_mode(f"{root}/{name}", mode=mode, owner="root", group="root")
    host.copy_file(guest_agent, f"{root}/usr/sbin/guest-agent", mode=0o755)
    host.remove(f"{root}/usr/bin/busybox")  # the kernel recipe's own, so that both images boot with the same one
    host.copy_file(files.busybox, f"{root}/usr/bin/busybox", mode=0o755)
    host.mkdir(f"{root}/etc/nqrust")
    for name, resource in _OURS.items():
        # Debian's sh lacks the small programs that busybox's has built in.
        script = resources.read(resource).replace(b"#!/bin/sh\n", b"#!/bin/busybox sh\n", 1)
        for old, new in (
            (b"/etc/init.d/", b"/etc/nqrust/"),
            (b"/etc/udhcpc/script", b"/etc/nqrust/udhcpc"),
            (b"/etc/acpi", b"/etc/nqrust/events"),
        ):
            script = script.replace(old, new)
        host.write_file(f"{root}/etc/nqrust/{name}", script, mode=0o755)
    host.mkdir(f"{root}/etc/nqrust/events")
    host.mkdir(f"{root}/etc/nqrust/events/PWRF")
    host.symlink("/sbin/poweroff", f"{root}/etc/nqrust/events/PWRF/00000080")
    host.symlink("/usr/bin/busybox", f"{root}/usr/sbin/init")
    for name in ("poweroff", "halt", "reboot"):
        host.symlink("/etc/nqrust/power-off", f"{root}/usr/sbin/{name}")
    _applets(host, root, files.busybox)
    for path, text in _FILES.items():
        host.remove(f"{root}/{path}")
        host.write_file(f"{root}/{path}", text.encode())
    for name in ("inittab", "issue"):
        host.remove(f"{root}/etc/{name}")
        host.write_file(f"{root}/etc/{name}", resources.read(f"container/{name}"))
    if not host.exists(f"{root}/etc/containers"):
        host.mkdir(f"{root}/etc/containers")
    settings = resources.read("container/containers.conf")
    if host.exists(f"{root}/usr/lib/podman/netavark"):
        settings += b'\n[network]\nnetwork_backend = "netavark"\n'
        host.remove(f"{root}{_CNI_EXAMPLE}")
    host.write_file(f"{root}/etc/containers/containers.conf", settings)
    _accounts(host, root)
    _modules(host, root, files)


def _applets(host: Host, root: str, busybox: str) -> None:
    """Link busybox's programs that Debian itself lacks."""
    have = {name for folder in ("usr/bin", "usr/sbin") for name in host.listdir(f"{root}/{folder}")}
    paths = applets.listed(host, busybox)
    scripts = applets.instead(host, busybox, paths)
    for path in paths:
        name = path.rpartition("/")[2]
        if name in have or name in ("linuxrc", "init", "busybox"):
            continue
        if name in scripts:
            script = scripts[name].replace(b"#!/bin/sh\n", b"#!/bin/busybox sh\n", 1)
            host.write_file(f"{root}/usr/local/bin/{name}", script, mode=0o755)
        else:
            host.symlink("/usr/bin/busybox", f"{root}/usr/local/bin/{name}")
        have.add(name)


def _accounts(host: Host, root: str) -> None:
    """Write the accounts. Root has no password; busybox's login(1) then accepts only the terminals of securetty(5).

    All others are locked. The day of the last change is empty.
    """
    lines = [line.split(":") for line in host.read_text(f"{root}/etc/passwd").splitlines() if line]
    passwd = "".join(":".join((name, "x", *rest)) + "\n" for name, _, *rest in lines)
    shadow = "".join(f"{fields[0]}:{'' if fields[0] == 'root' else '*'}:::::::\n" for fields in lines)
    host.write_file(f"{root}/etc/passwd", passwd.encode())
    host.write_file(f"{root}/etc/shadow", shadow.encode(), mode=0o600)


def _modules(host: Host, root: str, files: GuestFiles) -> None:
    """Number the modules, so that the shell's own ordering is the load order."""
    place = f"{root}/usr/lib/modules"
    for folder in (place, f"{place}/{files.version}", f"{place}/{files.version}/nqrust"):
        if not host.exists(folder):
            host.mkdir(folder)
    for at, module in enumerate(initrd.drivers(host, files, MODULES, OPTIONAL_MODULES)):
        host.write_file(f"{place}/{files.version}/nqrust/{at:02d}-{module.name}.ko", module.data)


def size_mib(listing: str) -> int:
    r"""Return the MiB of a file system for the content that `find -printf '%y %s\n'` lists.

    That is whole blocks, a block for each directory and long symlink, an eighth for inodes and bitmaps, the journal, and free
    space.
    """
    content = 0
    for line in listing.splitlines():
        kind, _, size = line.partition(" ")
        content += -(-int(size) // 4096) * 4096 if kind == "f" else 4096
    needed = content * 9 // 8 // 2**20 + 16 + HEADROOM_MIB
    return -(-needed // 64) * 64


def make_ext4(host: Host, root: str, target: str) -> int:
    """Create `target`, an ext4 with the folder `root`. Return its size in MiB. Raises ImageError NQR-IMG-006."""
    with ext4.failures():
        size = size_mib(host.run(command("find", root, "-xdev", "-printf", "%y %s\\n", timeout=300)).stdout)
    # Layers of containers are many small files: an inode for every 8 KiB.
    ext4.make(host, root, target, size, _IDS, journal_mib=16, inodes=("-i", "8192"))
    return size

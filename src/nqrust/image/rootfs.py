"""The root file system of image `tiny`: a folder, then an ext4 built from it without mounting."""

from __future__ import annotations

from nqrust.host.port import Host
from nqrust.image import applets, ext4, resources

SIZE_MIB = 32
_IDS = ext4.Ids("6e717275-7374-4d56-8000-74696e790001", "6e717275-7374-4d56-8000-74696e790002")

_DIRECTORIES = (
    "bin",
    "dev",
    "etc",
    "etc/acpi",
    "etc/acpi/PWRF",
    "etc/init.d",
    "etc/udhcpc",
    "home",
    "mnt",
    "proc",
    "run",
    "sbin",
    "sys",
    "usr",
    "usr/bin",
    "usr/sbin",
    "var",
    "var/log",
)

_SCRIPTS = {
    "etc/init.d/rcS": "rcS",
    "etc/init.d/rcK": "rcK",
    "etc/init.d/agent": "agent",
    "etc/init.d/dhcp": "dhcp",
    "etc/init.d/acpi": "acpi",
    "etc/udhcpc/script": "udhcpc-script",
    "sbin/power-off": "power-off",
}

_FILES = {
    "etc/hostname": "tiny\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    # Root logs in on these terminals only (securetty(5)), and nothing in this image listens for logins.
    "etc/securetty": "ttyS0\n",
    "etc/shells": "/bin/sh\n",
    "etc/resolv.conf": "",
    "etc/profile": "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport PS1='\\u@\\h:\\w\\$ '\n",
    "etc/os-release": 'ID=nqrust-tiny\nNAME="NQRust tiny"\nPRETTY_NAME="NQRust tiny guest"\n',
}

# The root's password is empty, which login(1) accepts without asking. The day of the last change is empty.
_SHADOW = "root::::::::\nnobody:*:::::::\n"
_POWER = ("poweroff", "halt", "reboot")
_APPLET_DIRECTORIES = ("bin", "sbin", "usr/bin", "usr/sbin")


def populate(host: Host, root: str, *, busybox: str, guest_agent: str) -> None:
    """Fill the folder `root`, which must not exist yet. Root owns everything."""
    host.mkdir(root)
    for name in _DIRECTORIES:
        host.mkdir(f"{root}/{name}")
    host.mkdir(f"{root}/tmp", mode=0o1777)
    host.mkdir(f"{root}/root", mode=0o700)
    host.copy_file(busybox, f"{root}/bin/busybox", mode=0o755)
    host.copy_file(guest_agent, f"{root}/usr/sbin/guest-agent", mode=0o755)
    paths = applets.listed(host, busybox)
    scripts, instead = applets.instead(host, busybox, paths), list[str]()
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder in _APPLET_DIRECTORIES and name in scripts:
            host.write_file(f"{root}/{path}", scripts[name], mode=0o755)
            instead.append(path)
        elif folder in _APPLET_DIRECTORIES and name not in _POWER and path not in ("bin/busybox", "linuxrc"):
            host.symlink("/bin/busybox", f"{root}/{path}")
    for path, resource in _SCRIPTS.items():
        host.write_file(f"{root}/{path}", resources.read(f"tiny/{resource}"), mode=0o755)
    for name in _POWER:
        host.symlink("power-off", f"{root}/sbin/{name}")
    host.symlink("/sbin/poweroff", f"{root}/etc/acpi/PWRF/00000080")
    for path, text in _FILES.items():
        host.write_file(f"{root}/{path}", text.encode())
    host.write_file(f"{root}/etc/profile", (_FILES["etc/profile"] + applets.functions(instead)).encode())
    host.write_file(f"{root}/etc/inittab", resources.read("tiny/inittab"))
    host.write_file(f"{root}/etc/issue", resources.read("tiny/issue"))
    host.write_file(f"{root}/etc/shadow", _SHADOW.encode(), mode=0o600)


def make_ext4(host: Host, root: str, target: str) -> None:
    """Create `target`, an ext4 of SIZE_MIB with the folder `root`. Raises ImageError NQR-IMG-006."""
    ext4.make(host, root, target, SIZE_MIB, _IDS, journal_mib=4, inodes=("-N", "4096"))

"""What images of several distributions have for their network, as far as a decision looks at it: path -> text, or a link's
target after `-> `, or a folder (None)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nqrust.agent.disks.netconf.image import Image

Tree = Mapping[str, "str | None"]

SYSTEMD: Tree = {"/sbin/init": "-> /lib/systemd/systemd", "/lib/systemd/system/systemd-networkd.service": "[Unit]\n"}
WANTS = "/etc/systemd/system/multi-user.target.wants"


def enabled(unit: str, target: str = "multi-user") -> Tree:
    return {f"/etc/systemd/system/{target}.target.wants/{unit}": f"-> /lib/systemd/system/{unit}"}


NETWORKD: Tree = {**SYSTEMD, **enabled("systemd-networkd.service"), "/etc/systemd/network": None}
NETPLAN: Tree = {
    **SYSTEMD,
    "/usr/sbin/netplan": "-> ../share/netplan/netplan.script",
    "/etc/netplan/50-own.yaml": "network: {version: 2}\n",
}
NETWORK_MANAGER: Tree = {**SYSTEMD, **enabled("NetworkManager.service"), "/etc/NetworkManager/system-connections": None}
DEBIAN_INTERFACES = "# interfaces(5)\nsource /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n"
IFUPDOWN: Tree = {
    **SYSTEMD,
    **enabled("networking.service"),
    "/sbin/ifup": "program",
    "/etc/network/interfaces": DEBIAN_INTERFACES,
    "/etc/network/interfaces.d": None,
}
ALPINE: Tree = {
    "/sbin/init": "-> /bin/busybox",
    "/sbin/ifup": "-> /bin/busybox",
    "/etc/runlevels/boot/networking": "-> /etc/init.d/networking",
}
IFCFG: Tree = {
    "/sbin/init": "-> ../lib/systemd/systemd",
    "/etc/rc.d/rc3.d/S10network": "-> ../init.d/network",
    "/etc/sysconfig/network-scripts/ifcfg-lo": "DEVICE=lo\n",
}
CLOUD_INIT: Tree = {
    **IFUPDOWN,
    **enabled("cloud-init-local.service", "cloud-init"),
    "/usr/bin/cloud-init": "program",
    "/etc/cloud/cloud.cfg": "users:\n   - default\n",
    "/etc/cloud/cloud.cfg.d/90_dpkg.cfg": "datasource_list: [ Ec2, None ]\n",
}
TINY: Tree = {
    "/sbin/init": "-> /bin/busybox",
    "/sbin/ifup": "-> /bin/busybox",
    "/etc/init.d/rcS": "program",
    "/etc/hostname": "tiny\n",
}


def image(tree: Tree) -> Image:
    """As a look into it would have it."""
    kinds: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    for path, text in tree.items():
        parts = path.split("/")[1:-1]
        for count in range(1, len(parts) + 1):
            kinds.setdefault("/" + "/".join(parts[:count]), "directory")
        kinds[path] = "directory" if text is None else "symlink" if text.startswith("-> ") else "regular"
    for path, kind in kinds.items():
        if kind == "directory":
            names[path] = [other.rpartition("/")[2] for other in tree if other.rpartition("/")[0] == path]
    links = {path: text[3:] for path, text in tree.items() if text is not None and text.startswith("-> ")}
    texts = {path: text for path, text in tree.items() if text is not None and not text.startswith("-> ")}
    return Image(kinds, links, texts, names)


def make(folder: Path, tree: Tree) -> Path:
    """The same on a disk, with /etc and /root."""
    for name in ("etc", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path, text in tree.items():
        place = folder / path[1:]
        if text is None:
            place.mkdir(parents=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            place.symlink_to(text[3:])
        else:
            place.write_text(text)
    return folder

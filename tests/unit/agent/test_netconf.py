"""The configurator that an image uses, as a table, and the files for each, as golden files."""

from __future__ import annotations

import configparser
from dataclasses import replace

import pytest
import yaml
from tests import places
from tests.live.agent import images_with_networks as trees
from tests.live.agent.images_with_networks import SYSTEMD, Tree, enabled

from nqrust.agent.disks.netconf import choose, ext4, ifupdown
from nqrust.agent.disks.netconf.configurator import Nic
from nqrust.agent.disks.netconf.image import Image
from nqrust.agent.errors import Failed

GOLDEN = places.GOLDEN / "netconf"
MAC = "02:4e:51:00:00:0a"
NIC = Nic(MAC, "0b8f0c3e-5f0e-4a53-9f4e-6a1d2a8f7c11", "web1")
PASSWORD = Nic(MAC, NIC.vm_id, "web1", passwords=True)
OURS = "# Written by NQRust-MicroVM\n"
SEED = "/var/lib/cloud/seed/nocloud"


def files(tree: Tree, nic: Nic = NIC) -> dict[str, tuple[int, str]]:
    return dict(choose.decide(trees.image(tree), nic).files)


CASES: dict[str, tuple[Tree, Nic]] = {
    "cloud-init": (trees.CLOUD_INIT, NIC),
    "cloud-init-password": (trees.CLOUD_INIT, PASSWORD),
    "netplan": (trees.NETPLAN, NIC),
    "network-manager": (trees.NETWORK_MANAGER, NIC),
    "networkd": (trees.NETWORKD, NIC),
    "networkd-idle": (SYSTEMD, NIC),
    "ifupdown-debian": (trees.IFUPDOWN, NIC),
    "ifupdown-alpine": (trees.ALPINE, NIC),
    "ifcfg": (trees.IFCFG, NIC),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_the_golden_file(name: str) -> None:
    written = "".join(f"=== {path} {mode:04o}\n{text}" for path, (mode, text) in files(*CASES[name]).items())
    assert written == (GOLDEN / f"{name}.txt").read_text()


def test_no_golden_file_is_left_over() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(CASES)


ROWS: list[tuple[str, Tree, str, str]] = [
    # what the image has, configurator, a part of why nothing is written (empty: something is)
    ("cloud-init goes first", {**trees.CLOUD_INIT, **trees.NETPLAN}, "cloud-init", ""),
    ("cloud-init is disabled", {**trees.CLOUD_INIT, "/etc/cloud/cloud-init.disabled": ""}, "ifupdown", ""),
    ("cloud-init's policy is off", {**trees.CLOUD_INIT, "/etc/cloud/ds-identify.cfg": "policy: disabled\n"}, "ifupdown", ""),
    (
        "cloud-init leaves the network",
        {**trees.CLOUD_INIT, "/etc/cloud/cloud.cfg.d/99-off.cfg": "network: {config: disabled}\n"},
        "ifupdown",
        "",
    ),
    ("the same on two lines", {**trees.CLOUD_INIT, "/etc/cloud/cloud.cfg": "network:\n  config: disabled\n"}, "ifupdown", ""),
    (
        "not for what is no .cfg",
        {**trees.CLOUD_INIT, "/etc/cloud/cloud.cfg.d/off.txt": "network: {config: disabled}\n"},
        "cloud-init",
        "",
    ),
    ("cloud-init was removed, its file stayed", {**trees.IFUPDOWN, "/etc/cloud/cloud.cfg": "users: []\n"}, "ifupdown", ""),
    ("cloud-init has a seed", {**trees.CLOUD_INIT, f"{SEED}/user-data": "#cloud-config\n"}, "cloud-init", "seed of its own"),
    ("the seed is ours", {**trees.CLOUD_INIT, **{f"{SEED}/{n}": OURS for n in ("user-data", "meta-data")}}, "cloud-init", ""),
    (
        "cloud-init on Alpine",
        {
            **trees.ALPINE,
            "/etc/runlevels/boot/cloud-init-local": "-> /etc/init.d/cloud-init-local",
            "/usr/bin/cloud-init": "program",
            "/etc/cloud/cloud.cfg": "",
        },
        "cloud-init",
        "",
    ),
    ("netplan, with networkd below it", {**trees.NETPLAN, **trees.NETWORKD}, "netplan", ""),
    ("a left folder of netplan's", {**trees.IFUPDOWN, "/etc/netplan": None}, "ifupdown", ""),
    (
        "netplan's folder is a link",
        {**SYSTEMD, "/usr/sbin/netplan": "x", "/etc/netplan": "-> /root"},
        "netplan",
        "/etc/netplan of the image",
    ),
    (
        "netplan's folder is a file",
        {**SYSTEMD, "/usr/sbin/netplan": "x", "/etc/netplan": "x"},
        "netplan",
        "/etc/netplan of the image",
    ),
    ("a folder has our name", {**trees.NETPLAN, "/etc/netplan/90-nqrust.yaml": None}, "netplan", "90-nqrust.yaml of the image"),
    ("a link has our name", {**trees.NETPLAN, "/etc/netplan/90-nqrust.yaml": "-> /etc/shadow"}, "netplan", ""),
    ("NetworkManager before networkd", {**trees.NETWORK_MANAGER, **trees.NETWORKD}, "NetworkManager", ""),
    (
        "NetworkManager is masked",
        {
            **trees.NETWORK_MANAGER,
            "/etc/systemd/system/NetworkManager.service": "-> /dev/null",
            **trees.IFUPDOWN,
        },
        "ifupdown",
        "",
    ),
    ("NetworkManager of RHEL 8, beside ifcfg", {**trees.IFCFG, **enabled("NetworkManager.service")}, "NetworkManager", ""),
    (
        "networkd by its socket",
        {
            **SYSTEMD,
            "/etc/systemd/system/sockets.target.wants/systemd-networkd.socket": "-> /lib/systemd/system/systemd-networkd.socket",
        },
        "systemd-networkd",
        "",
    ),
    ("networkd is there, ifupdown is used", trees.IFUPDOWN, "ifupdown", ""),
    (
        "networkd is masked and alone",
        {**SYSTEMD, "/etc/systemd/system/systemd-networkd.service": "-> /dev/null"},
        "systemd-networkd",
        "masked",
    ),
    ("networkd without systemd as init", {**trees.NETWORKD, "/sbin/init": "-> /bin/busybox"}, "", "no network configurator"),
    ("dhcpcd", {**SYSTEMD, **enabled("dhcpcd.service")}, "dhcpcd.service", "starts dhcpcd.service"),
    (
        "interfaces names a NIC",
        {
            **trees.IFUPDOWN,
            "/etc/network/interfaces": trees.DEBIAN_INTERFACES + "allow-hotplug ens3\niface ens3 inet static\n",
        },
        "ifupdown",
        "configures ens3",
    ),
    (
        "interfaces.d names a NIC",
        {**trees.IFUPDOWN, "/etc/network/interfaces.d/lan": "auto eth0\niface eth0 inet dhcp\n"},
        "ifupdown",
        "configures eth0",
    ),
    ("interfaces.d has ours", {**trees.IFUPDOWN, "/etc/network/interfaces.d/90-nqrust": OURS + "auto eth0\n"}, "ifupdown", ""),
    (
        "interfaces.d has a link",
        {**trees.IFUPDOWN, "/etc/network/interfaces.d/lan": "-> /etc/passwd"},
        "ifupdown",
        "cannot be read",
    ),
    (
        "interfaces reads no folder",
        {**trees.IFUPDOWN, "/etc/network/interfaces": "auto lo\niface lo inet loopback\n"},
        "ifupdown",
        "reads no",
    ),
    ("interfaces is a link", {**trees.IFUPDOWN, "/etc/network/interfaces": "-> /etc/passwd"}, "ifupdown", "cannot be read"),
    ("ifupdown2", {**trees.IFUPDOWN, "/sbin/ifup": "-> /usr/share/ifupdown2/ifupdown2"}, "ifupdown", "cannot match"),
    ("networking is not started", {k: v for k, v in trees.IFUPDOWN.items() if "wants" not in k}, "systemd-networkd", ""),
    (
        "Alpine that names its NIC",
        {**trees.ALPINE, "/etc/network/interfaces": "auto lo\nauto eth0\niface eth0 inet dhcp\n"},
        "ifupdown",
        "eth0",
    ),
    ("an interfaces that we wrote", {**trees.ALPINE, "/etc/network/interfaces": OURS + "auto eth0\n"}, "ifupdown", ""),
    (
        "a System V init",
        {
            "/sbin/init": "program",
            "/sbin/ifup": "program",
            "/etc/rcS.d": None,
            "/etc/init.d/networking": "program",
        },
        "ifupdown",
        "",
    ),
    ("ifcfg of a NIC", {**trees.IFCFG, "/etc/sysconfig/network-scripts/ifcfg-ens3": "DEVICE=ens3\n"}, "ifcfg", "ifcfg-ens3"),
    ("ifcfg that we wrote", {**trees.IFCFG, "/etc/sysconfig/network-scripts/ifcfg-nqrust": OURS}, "ifcfg", ""),
    ("tiny", trees.TINY, "", "no network configurator"),
    ("nothing at all", {}, "", "no network configurator"),
]


@pytest.mark.parametrize(("tree", "configurator", "why"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_which_configurator_is_used(tree: Tree, configurator: str, why: str) -> None:
    plan = choose.decide(trees.image(tree), NIC)
    assert plan.configurator == configurator
    assert bool(plan.files) == (not why) and why in plan.why
    assert plan.told == (f"DHCP, by {configurator}" if not why else f"left to the image: {plan.why}")


def test_all_that_is_decided_on_is_looked_at() -> None:
    looked = choose.wanted()
    for tree in [tree for tree, _ in CASES.values()] + [row[1] for row in ROWS]:
        whole = trees.image(tree)
        folders = looked.folders & set(whole.names)
        seen = Image(
            {path: kind for path, kind in whole.kinds.items() if path in looked.everything()},
            {path: target for path, target in whole.links.items() if path in looked.everything()},
            {path: text for path, text in whole.texts.items() if path in looked.texts or path.rpartition("/")[0] in folders},
            {path: whole.names[path] for path in folders},
        )
        assert choose.decide(seen, NIC) == choose.decide(whole, NIC)


def test_nothing_that_cannot_be_read_is_written_beside() -> None:
    """Files that are too long, or too many: nqr cannot judge the image's own configuration."""
    found = trees.image(trees.IFUPDOWN)
    for texts, names in (
        ({**found.texts, "/etc/network/interfaces": None}, found.names),
        (found.texts, {**found.names, "/etc/network/interfaces.d": None}),
        ({**found.texts, "/etc/network/interfaces.d/x": None}, {**found.names, "/etc/network/interfaces.d": ["x"]}),
    ):
        plan = choose.decide(Image(found.kinds, found.links, texts, names), NIC)
        assert plan.configurator == "ifupdown" and not plan.files and "cannot be read" in plan.why


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", []),
        ("auto lo\niface lo inet loopback\n", []),
        ("# auto eth0\n", []),
        ("auto lo eth0\n", ["eth0"]),
        ("auto \\\n eth1\n", ["eth1"]),
        ("  iface  eth0  inet dhcp\n", ["eth0"]),
        ("allow-hotplug ens3 ens4\n", ["ens3", "ens4"]),
        ("rename mac/02:00:00:00:00:01=lan\n", ["mac/02:00:00:00:00:01=lan"]),
        ("mapping eth0\n", ["eth0"]),
    ],
)
def test_the_nics_of_an_interfaces_file(text: str, named: list[str]) -> None:
    assert ifupdown.named(text) == named


def test_the_files_are_what_their_readers_take() -> None:
    """YAML and INI find the NIC by its MAC and mention no other."""
    netplan = yaml.safe_load(files(trees.NETPLAN)["/etc/netplan/90-nqrust.yaml"][1])
    (ethernet,) = netplan["network"]["ethernets"].values()
    assert ethernet["match"] == {"macaddress": MAC} and ethernet["dhcp4"] is True
    seed = files(trees.CLOUD_INIT)
    assert yaml.safe_load(seed[f"{SEED}/meta-data"][1]) == {"instance-id": NIC.vm_id, "local-hostname": "web1"}
    assert yaml.safe_load(seed[f"{SEED}/user-data"][1]) == {} and seed[f"{SEED}/user-data"][1].startswith("#cloud-config\n")
    assert yaml.safe_load(seed[f"{SEED}/network-config"][1])["ethernets"]["eth0"]["match"] == {"macaddress": MAC}
    for tree, path, section, key in (
        (trees.NETWORKD, "/etc/systemd/network/10-nqrust.network", "Match", "MACAddress"),
        (trees.NETWORK_MANAGER, "/etc/NetworkManager/system-connections/90-nqrust.nmconnection", "ethernet", "mac-address"),
    ):
        parsed = configparser.ConfigParser()
        parsed.read_string(files(tree)[path][1])
        assert parsed[section][key].lower() == MAC


STAT = """debugfs: stat /sbin/init
Inode: 13   Type: symlink    Mode:  0777   Flags: 0x0
User:     0   Group:     0   Project:     0   Size: 20
Fast link dest: "/lib/systemd/systemd"
debugfs: stat /etc/none
/etc/none: File not found by ext2_lookup
debugfs: stat /etc/network/interfaces
Inode: 15   Type: regular    Mode:  0644   Flags: 0x80000
User:     0   Group:     0   Project:     0   Size: 144
"""


PATHS = ("/sbin/init", "/etc/none", "/etc/network/interfaces")


def test_what_debugfs_says() -> None:
    assert ext4.parse(STAT, PATHS) == {
        "/sbin/init": ("symlink", 20, "/lib/systemd/systemd"),
        "/etc/network/interfaces": ("regular", 144, ""),
    }
    told = "/2/040755/0/0/./0/\n/2/040755/0/0/../0/\n/14/100644/0/0/lan/12/\n/15/120777/0/0/odd/5/\n\n"
    assert ext4.entries_of(told) == [("lan", 12), ("odd", None)]
    assert ext4.entries_of("".join(f"/9/100644/0/0/f{n}/1/\n" for n in range(300))) is None
    assert ext4.entries_of("/14/100644/0/0/two\nlines/12/\n") is None


@pytest.mark.parametrize("path", PATHS)
def test_a_link_that_talks_like_debugfs_makes_its_image_tell_nothing(path: str) -> None:
    """Its target could say of a file of terabytes that it is a short one."""
    link = f"x\ndebugfs: stat {path}\nInode: 1 Type: regular"
    assert ext4.parse(STAT.replace("/lib/systemd/systemd", link), PATHS) == {}
    assert ext4.parse(STAT.replace("/lib/systemd/systemd", "debugfs: stat x"), PATHS).keys() == {PATHS[0], PATHS[2]}
    assert ext4.answers("debugfs: ls -p /d\n/14/100644/0/0/a\ndebugfs: ls -p /e\n", ["ls -p /d"]) == {}


DATA = replace(NIC, user_data="#cloud-config\npassword: s3cret\n")


def test_user_data_goes_into_the_seed_for_root_alone() -> None:
    plan = choose.decide(trees.image(trees.CLOUD_INIT), DATA)
    assert plan.files[f"{SEED}/user-data"] == (0o600, DATA.user_data)
    assert "s3cret" not in repr(DATA)
    seeded = {**trees.CLOUD_INIT, **{path: text for path, (_, text) in plan.files.items()}}
    again = choose.decide(trees.image(seeded), replace(DATA, user_data="#!/bin/sh\n"))
    assert again.files[f"{SEED}/user-data"] == (0o600, "#!/bin/sh\n"), "a seed of the platform is written again"


@pytest.mark.parametrize(
    "tree",
    [
        trees.IFUPDOWN,
        {**trees.CLOUD_INIT, f"{SEED}/user-data": "#cloud-config\n"},
        {**trees.CLOUD_INIT, "/etc/cloud/cloud-init.disabled": ""},
    ],
)
def test_user_data_without_cloud_init_to_read_it_is_refused(tree: Tree) -> None:
    with pytest.raises(Failed) as caught:
        choose.decide(trees.image(tree), DATA)
    assert caught.value.code == "NQR-IMG-062"

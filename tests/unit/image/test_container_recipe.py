"""The build of image `container-runtime`: queries to apt, input of mmdebstrap, and files in the guest."""

from __future__ import annotations

import hashlib

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, DiskUsage, Kind
from nqrust.image import container, container_packages, container_rootfs
from nqrust.image.container_packages import Repository, Selection
from nqrust.image.errors import ImageError
from nqrust.image.kernel import GuestFiles

CACHE = "/var/cache/debs"
FOLDER = f"{CACHE}/container-runtime"
SELECTION = Selection(
    ("crun", "podman"), ((("netavark", "aardvark-dns"), ("containernetworking-plugins",)), (("usr-is-merged",),))
)
DEBS = {"libc6": b"the library", "crun": b"the runtime", "podman": b"the engine"}


def stanza(name: str, version: str = "1:2-3") -> str:
    data = DEBS[name]
    return (
        f"Package: {name}\nVersion: {version}\nEssential: yes\nFilename: pool/{name}.deb\nSize: {len(data)}\n"
        f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
    )


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    known = "\n\n".join(f"Package: {name}\nVersion: 1" for name in ("crun", "podman", "containernetworking-plugins"))
    simulated = "".join(f"Inst {name} (1:2-3 Debian:12/stable [amd64])\nConf {name} (1:2-3)\n" for name in DEBS)

    def show(machine: FakeHost, cmd: Command) -> str:
        return known if "Dir::State::status=/dev/null" not in cmd.argv else "\n\n".join(map(stanza, DEBS))

    def get(machine: FakeHost, cmd: Command) -> str:
        if "--simulate" in cmd.argv:
            return simulated
        for pin in cmd.argv[cmd.argv.index("download") + 1 :]:
            name = pin.partition("=")[0]
            machine.put(f"{cmd.cwd}/{name}_1%3a2-3_amd64.deb", DEBS[name])
        return ""

    host.on("apt-cache", prefix=True, answer=show)
    host.on("apt-get", prefix=True, answer=get)
    return host


def asked(host: FakeHost, *words: str) -> list[tuple[str, ...]]:
    return [cmd.argv for cmd in host.commands if set(words) <= set(cmd.argv)]


def silent(text: str, fraction: float | None) -> None:
    return None


def test_apt_resolves_for_an_empty_system_into_a_repository(host: FakeHost) -> None:
    made = container_packages.repository(host, CACHE, SELECTION, silent)
    assert made.source == f"deb [trusted=yes] copy:{FOLDER} ./"
    assert made.include == ("crun", "podman", "containernetworking-plugins"), "the alternative that this release has"
    (simulated,) = asked(host, "--simulate")
    assert "Dir::State::status=/dev/null" in simulated and simulated[-4:] == ("?essential", *made.include)
    assert asked(host, "download")[0][-3:] == ("libc6=1:2-3", "crun=1:2-3", "podman=1:2-3"), "one download for all"
    assert host.listdir(FOLDER) == ["Packages", "Release", "crun_1_2-3.deb", "libc6_1_2-3.deb", "podman_1_2-3.deb"]
    index = host.read_text(f"{FOLDER}/Packages")
    assert "Filename: ./crun_1_2-3.deb\n" in index and "pool/" not in index and index.count("Essential: yes") == 3
    assert hashlib.sha256(index.encode()).hexdigest() in host.read_text(f"{FOLDER}/Release")


def test_a_second_build_downloads_nothing_and_one_without_an_index_uses_what_is_kept(host: FakeHost) -> None:
    first = container_packages.repository(host, CACHE, SELECTION, silent)
    host.put(f"{FOLDER}/crun_0.deb", b"left behind")
    container_packages.repository(host, CACHE, SELECTION, silent)
    assert len(asked(host, "download")) == 1 and "crun_0.deb" not in host.listdir(FOLDER)
    host.on("apt-cache", prefix=True, answer="")
    assert container_packages.repository(host, CACHE, SELECTION, silent) == first
    host.put(f"{FOLDER}/crun_1_2-3.deb", b"tampered with")
    with pytest.raises(ImageError, match="no crun, podman") as caught:
        container_packages.repository(host, CACHE, SELECTION, silent)
    assert caught.value.code == "NQR-IMG-002" and "apt-get update" in caught.value.cure


def test_another_file_than_the_index_names_is_refused(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    good = container_packages._resolve(host, ("crun",))
    monkeypatch.setitem(DEBS, "crun", b"an error page")
    monkeypatch.setattr(container_packages, "_resolve", lambda *_: good)
    with pytest.raises(ImageError, match="as crun differs") as caught:
        container_packages.repository(host, CACHE, SELECTION, silent)
    assert caught.value.code == "NQR-IMG-003" and host.listdir(FOLDER) == [], "nothing of it is kept"


REPOSITORY = Repository(FOLDER, ("crun", "podman"))


def test_mmdebstrap_gets_that_repository_and_no_other(host: FakeHost) -> None:
    host.on("mmdebstrap", prefix=True)
    container_rootfs.debian(host, "/scratch/root", REPOSITORY, silent)
    argv = host.commands[-1].argv
    assert argv[-3:] == ("nqrust", "/scratch/root", REPOSITORY.source)
    assert {"--mode=root", "--variant=essential", "--include=crun,podman"} <= set(argv)
    assert not [word for word in argv if "://" in word], "no archive is named"
    host.on("mmdebstrap", prefix=True, answer=CommandFailed(("mmdebstrap",), 25, "E: mount failed"))
    with pytest.raises(ImageError, match="mount failed") as caught:
        container_rootfs.debian(host, "/scratch/root", REPOSITORY, silent)
    assert caught.value.code == "NQR-IMG-021"


@pytest.fixture
def root(host: FakeHost) -> str:
    """A Debian as mmdebstrap leaves it, with a kernel package beside it."""
    for name in ("usr/bin", "usr/sbin", "usr/local/bin", "usr/lib", "etc/containers", "etc/apt"):
        host.put_directory(f"/s/root/{name}")
    host.put("/s/root/usr/bin/mount", b"")
    host.put("/s/root/usr/sbin/crun", b"")
    host.put("/s/root/etc/passwd", b"root:*:0:0:root:/root:/bin/bash\n_apt:*:42:65534::/nonexistent:/usr/sbin/nologin\n")
    host.put("/s/root/etc/issue", b"Debian\n")
    host.put("/s/busybox", b"\x7fELF busybox")
    host.put("/s/guest-agent", b"\x7fELF agent")
    for name in ("overlay", "veth", "llc", "bridge", "nf_tables", "tun"):
        host.put(f"/s/m/kernel/{name}.ko", b"\0depends=" + (b"llc" if name == "bridge" else b"") + b"\0")
    host.put("/s/m/modules.builtin", b"kernel/fs/fuse/fuse.ko\n")
    host.on("/s/busybox", "--list-full", answer="bin/mount\nsbin/udhcpc\nsbin/acpid\nsbin/poweroff\nsbin/init\nbin/ip\n")
    return "/s/root"


FILES = GuestFiles("6.1.0-1-cloud-amd64", "/s/vmlinuz", "/s/m", "/s/busybox")


def test_the_guest_has_an_init_an_agent_a_login_and_its_modules(host: FakeHost, root: str) -> None:
    container_rootfs.complete(host, root, FILES, "/s/guest-agent")
    tmp = host.stat(f"{root}/var/tmp")
    assert tmp is not None and tmp.mode == 0o1777 and host.exists(f"{root}/var/cache")
    assert host.readlink(f"{root}/usr/sbin/init") == "/usr/bin/busybox"
    assert host.readlink(f"{root}/usr/sbin/poweroff") == "/etc/nqrust/power-off"
    agent = host.stat(f"{root}/usr/sbin/guest-agent")
    assert agent is not None and agent.mode == 0o755
    assert host.listdir(f"{root}/usr/local/bin") == ["acpid", "ip", "udhcpc"], "only what Debian's own set lacks"
    modules = host.listdir(f"{root}/usr/lib/modules/{FILES.version}/nqrust")
    assert modules == ["00-overlay.ko", "01-veth.ko", "02-llc.ko", "03-bridge.ko", "04-nf_tables.ko", "05-tun.ko"]
    assert "netavark" not in host.read_text(f"{root}/etc/containers/containers.conf"), "there is none in this Debian"
    assert 'cgroup_manager = "cgroupfs"' in host.read_text(f"{root}/etc/containers/containers.conf")
    inittab = host.read_text(f"{root}/etc/inittab")
    for started in ("rcS", "agent", "dhcp", "acpi", "rcK", "login"):
        assert f"/etc/nqrust/{started}" in inittab
        script = host.read_text(f"{root}/etc/nqrust/{started}")
        assert script.startswith("#!/bin/busybox sh\n") and "/etc/init.d" not in script and "/etc/udhcpc" not in script
    assert "cgroup2 /sys/fs/cgroup" in host.read_text(f"{root}/etc/nqrust/rcS")
    named = {word.rstrip(";") for word in inittab.split() if word.startswith("/etc/nqrust/")}
    assert all(host.exists(f"{root}{word}") for word in named)


def test_a_wget_that_dies_of_a_timeout_is_replaced(host: FakeHost, root: str) -> None:
    host.on("/s/busybox", "--list-full", answer="bin/mount\nusr/bin/wget\n")
    host.on("/s/busybox", "wget", "--help", answer="Usage: wget [-cqS] [-O FILE] URL...")
    container_rootfs.complete(host, root, FILES, "/s/guest-agent")
    script = host.read_text(f"{root}/usr/local/bin/wget")
    assert script.startswith("#!/bin/busybox sh\n") and "busybox timeout" in script


def test_netavark_is_used_where_available(host: FakeHost, root: str) -> None:
    host.put(f"{root}/usr/lib/podman/netavark", b"")
    host.put(f"{root}/etc/cni/net.d/87-podman-bridge.conflist", b"{}")
    container_rootfs.complete(host, root, FILES, "/s/guest-agent")
    assert 'network_backend = "netavark"' in host.read_text(f"{root}/etc/containers/containers.conf")
    assert host.listdir(f"{root}/etc/cni/net.d") == []


def test_root_has_no_password_and_logs_in_on_the_serial_console_only(host: FakeHost, root: str) -> None:
    container_rootfs.complete(host, root, FILES, "/s/guest-agent")
    assert host.read_text(f"{root}/etc/shadow") == "root::::::::\n_apt:*:::::::\n"
    shadow = host.stat(f"{root}/etc/shadow")
    assert shadow is not None and shadow.mode == 0o600
    assert host.read_text(f"{root}/etc/passwd").startswith("root:x:0:0:root:/root:/bin/bash\n_apt:x:42:")
    assert host.read_text(f"{root}/etc/securetty") == "ttyS0\n"
    assert "getty -L -l /etc/nqrust/login 115200 ttyS0" in host.read_text(f"{root}/etc/inittab")
    assert "busybox login" in host.read_text(f"{root}/etc/nqrust/login")


def test_a_kernel_without_overlay_is_refused(host: FakeHost, root: str) -> None:
    host.remove("/s/m/kernel/overlay.ko")
    with pytest.raises(ImageError, match="overlay") as caught:
        container_rootfs.complete(host, root, FILES, "/s/guest-agent")
    assert caught.value.code == "NQR-IMG-005"


def test_the_disk_holds_the_content_and_room_for_an_image(host: FakeHost) -> None:
    assert container_rootfs.size_mib("d 4096\nl 7\n") == 320
    assert container_rootfs.size_mib("f 1\n" * 25600) == 384, "a file takes whole blocks: 100 MiB of them"
    host.on("find", prefix=True, answer=f"d 4096\nf {140 * 2**20}\n")
    host.on("mke2fs", prefix=True)
    host.on("debugfs", prefix=True)
    assert container_rootfs.make_ext4(host, "/s/root", "/s/rootfs.ext4") == 448
    made = next(one for one in host.commands if one.argv[0] == "mke2fs")
    assert "hash_seed=" in made.argv[made.argv.index("-E") + 1] and made.env["SOURCE_DATE_EPOCH"] == "1700000000"
    touched, settled = host.commands[1], host.commands[-1]
    assert touched.argv[:2] == ("find", "/s/root") and "@1700000000" in touched.argv, "no time of the build stays"
    assert settled.argv[0] == "debugfs" and b'sif "/lost+found" crtime @1700000000' in (settled.input or b"")
    argv = made.argv
    assert argv[-4:] == ("-d", "/s/root", "/s/rootfs.ext4", "448M") and "mount" not in " ".join(argv)
    host.on("mke2fs", prefix=True, answer=CommandFailed(("mke2fs",), 1, "no space"))
    with pytest.raises(ImageError, match="no space") as caught:
        container_rootfs.make_ext4(host, "/s/root", "/s/rootfs.ext4")
    assert caught.value.code == "NQR-IMG-006"


@pytest.mark.parametrize(("lacks", "code"), [("agent", "NQR-IMG-007"), ("mmdebstrap", "NQR-IMG-020"), ("room", "NQR-IMG-022")])
def test_missing_requirement_is_reported_before_the_build(host: FakeHost, lacks: str, code: str) -> None:
    host.put_directory("/srv/images")
    if lacks != "agent":
        host.put("/opt/guest-agent", b"\x7fELF")
    if lacks != "mmdebstrap":
        host.install("mmdebstrap")
    if lacks == "room":
        host.usages["/srv"] = DiskUsage(10**9, 10**8, 10**6, False)
    host.mutations.clear()
    with pytest.raises(ImageError) as caught:
        container.build(host, target_dir="/srv/images/container-runtime", guest_agent="/opt/guest-agent", cache_dir=CACHE)
    assert caught.value.code == code and caught.value.cure and host.mutations == []


def test_failed_build_keeps_the_earlier_image(host: FakeHost) -> None:
    host.put("/srv/images/container-runtime/image.json", b"former")
    host.put("/srv/images/.container-runtime.building/scratch/root/usr/bin/podman", b"of a build that was cut off")
    host.put("/opt/guest-agent", b"\x7fELF")
    host.install("mmdebstrap")
    host.on("apt-cache", prefix=True, answer="")
    with pytest.raises(ImageError) as caught:
        container.build(host, target_dir="/srv/images/container-runtime", guest_agent="/opt/guest-agent", cache_dir=CACHE)
    assert caught.value.code == "NQR-IMG-002"
    assert host.listdir("/srv/images") == ["container-runtime"]
    found = host.stat("/srv/images/container-runtime/image.json")
    assert found is not None and found.kind is Kind.file

"""An install from a bundle on a pristine Debian 12 without a way out. Nothing asks the outside for anything."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import pytest

from nqrust.image import kvm_probe
from nqrust.installer.platform.firecracker.source import DIGEST_VARIABLE
from tests import bare_guest, real_firecracker
from tests.hosts import product
from tests.hosts.machine import Machine, TestNetwork
from tests.places import ROOT

pytestmark = pytest.mark.timeout(2400)

_ARP, _IPV4 = b"\x08\x06", b"\x08\x00"
BUNDLE = "/mnt/nqrust.tar.zst"
INSTALL = ("--mode", "production", "--with-container-runtime", "--non-interactive")


class Sent:
    """Collects the frames of IPv4, and the questions of ARP, that a host with this hardware address sends over `interface`, while it is entered."""

    def __init__(self, interface: str, address: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        self._socket.bind((interface, 0))
        self._socket.settimeout(0.2)
        self._address = bytes.fromhex(address.replace(":", ""))
        self.frames: list[str] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._collect)

    def __enter__(self) -> Sent:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()

    def _collect(self) -> None:
        while not self._ends.is_set():
            try:
                frame = self._socket.recv(1 << 17)
            except TimeoutError:
                continue
            asks = frame[12:14] == _IPV4 or (frame[12:14] == _ARP and frame[21] == 1)  # an answer of ARP asks for nothing
            if frame[6:12] == self._address and asks:
                self.frames.append(frame[:64].hex())


def packed_firecracker(folder: Path) -> Path:
    """A real Firecracker with its jailer, in the publisher's form."""
    path, version = folder / "firecracker.tgz", real_firecracker.VERSION
    with tarfile.open(path, "w:gz") as archive:
        for name in ("firecracker", "jailer"):
            archive.add(real_firecracker.programs() / name, f"release-v{version}-x86_64/{name}-v{version}-x86_64")
    return path


def build(output: Path, firecracker: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "nqrust.cli",
        "bundle",
        "build",
        "--with",
        "images,container-runtime",
        "--source",
        str(ROOT),
        "--output",
        str(output),
        "--firecracker",
        str(firecracker),
    ]
    env = {**os.environ, DIGEST_VARIABLE: hashlib.sha256(firecracker.read_bytes()).hexdigest()}
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200, check=False, cwd="/", env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle from this checkout, built on the testing machine, which is a Debian 12 too."""
    if 'VERSION_ID="12"' not in Path("/etc/os-release").read_text():
        pytest.skip("a bundle for Debian 12 is built on Debian 12, and the testing machine has another system")
    path = tmp_path_factory.mktemp("bundle") / "nqrust.tar.zst"
    build(path, packed_firecracker(path.parent))
    yield path
    path.unlink()


def firecracker_runs(host: Machine, folder: Path) -> None:
    """The Firecracker that the bundle brought boots a guest on this host. Linux boots in it only where KVM boots Linux."""
    verdict = json.loads(host.read("/var/lib/nqrust-microvm/vmm.json"))
    assert verdict["vmm"] == "firecracker" or "Firecracker: The kernel did not start" in verdict["reason"], verdict
    for name in ("firecracker", "jailer"):
        installed = host.root / "opt/nqrust-microvm/bin" / name
        assert filecmp.cmp(installed, real_firecracker.programs() / name, shallow=False)
    manifest = bare_guest.image(folder)
    host.push(folder / "vmlinux", "/root/bare/vmlinux")
    config = kvm_probe.firecracker_config("/root/bare", manifest)
    booting = "/opt/nqrust-microvm/bin/firecracker --no-api --level Error --config-file /dev/stdin"
    assert kvm_probe.MARKER in host.run(booting, input=config, timeout=60).stdout
    host.run("rm -r /root/bare")


def test_install_from_a_bundle_sends_nothing_to_the_outside(bundle: Path, tmp_path: Path, tell: Callable[[str], None]) -> None:
    with TestNetwork(outward=False) as network, Machine(network=network, primed=False) as host:
        product.clone(host)
        host.push(bundle, BUNDLE)
        # Whatever asks a name server would ask the neighbour on the link, which the host reaches without a route.
        host.write("/etc/resolv.conf", f"nameserver {network.gateway}\n")
        host.run('ip route del default; test -z "$(ip route show default)"')
        before = host.fingerprint()
        mac = re.search(r"link/ether (\S+)", host.run("ip link show host0").stdout)
        assert mac is not None
        with Sent(host.link, mac[1]) as sent:
            host.run(["bash", "-c", f"echo > /dev/udp/{network.gateway}/53"], check=False)
            product.eventually("the test sees what the host sends", lambda: sent.frames)
            sent.frames.clear()
            began = time.monotonic()
            product.bootstrap(host, *INSTALL, "--release", BUNDLE)
            tell(f"bundle: {bundle.stat().st_size / 1e6:.0f} MB, installed without a network in {time.monotonic() - began:.1f} s")
            firecracker_runs(host, tmp_path)
            product.create_vm(host, "web1")
            listed = {one["name"]: one["state"] for one in product.document(host, "image", "ls")["items"]}
            assert listed == {"tiny": "ready", "container-runtime": "ready"}, "registered at once"
            assert not host.run("command -v mmdebstrap", check=False).ok
            assert "(0 changed" in product.bootstrap(host, *INSTALL, "--release", BUNDLE).stdout
            assert "(0 changed" in product.nqr(host, "install", "--non-interactive").stdout, "the bundle is remembered"
            host.run(["rm", BUNDLE])
            assert "(0 changed" in product.nqr(host, "install", "--non-interactive").stdout, "its files are in the cache"
            product.nqr(host, "status")
            assert sent.frames == []
            host.push(bundle, BUNDLE)
            product.nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
            assert "\n".join(before.diff(host.fingerprint())) == ""
            assert sent.frames == []


CONTAINER = """
mkdir -p /root/c/bin && cp /bin/busybox /root/c/bin/ && ln -s busybox /root/c/bin/sh
podman run --rm --network none --rootfs /root/c sh -c 'echo inside-$((6*7))-$$'
"""


@pytest.mark.matrix
def test_a_container_runs_on_a_host_that_has_only_the_bundle(bundle: Path, tell: Callable[[str], None]) -> None:
    with TestNetwork(outward=False) as network, Machine(network=network, primed=False) as host:
        product.clone(host)
        host.push(bundle, BUNDLE)
        host.run("ip route del default")
        product.bootstrap(host, "--mode", "minimal", "--with-container-runtime", "--non-interactive", "--release", BUNDLE)
        began = time.monotonic()
        created = ("create", "--name", "box", "--image", "container-runtime", "--memory", "512", "--start", "--wait")
        product.nqr(host, "vm", *created, timeout=600)
        said = product.nqr(host, "vm", "exec", "box", "--", "sh", "-c", CONTAINER, timeout=600).stdout
        assert "inside-42-1\n" in said, "the first process of its own PID namespace"
        tell(f"a container in a VM, with the VM's creation: {time.monotonic() - began:.0f} s")


@pytest.mark.matrix
def test_a_bundle_is_rehearsed_without_a_network(bundle: Path) -> None:
    with TestNetwork(outward=False) as network, Machine(network=network, primed=False) as host:
        product.clone(host)
        host.push(bundle, BUNDLE)
        host.run("ip route del default")
        product.bootstrap(host, "--dry-run", "--mode", "minimal", "--release", BUNDLE)
        before = host.fingerprint()
        mac = re.search(r"link/ether (\S+)", host.run("ip link show host0").stdout)
        assert mac is not None
        options = ("--rehearse", "--mode", "minimal", "--release", BUNDLE, "--output", "json")
        with Sent(host.link, mac[1]) as sent:
            done = product.bootstrap(host, *options)
            assert sent.frames == []
        summary = product.lines(done)[-1]
        assert (summary["outcome"], summary["exit_code"]) == ("ok", 0)
        found = summary["rehearsal"]
        assert {"packages", "users"} <= {one["section"] for one in found["differences"]}
        assert any("an install from a bundle needs none" in one for one in found["unmeasured"]), found["unmeasured"]
        kept = re.compile(rf"{product.CACHE}(/|$)|/var/(log|cache)/|/var/lib/(systemd|dbus)(/|$)|/tmp/|/var/tmp/|/run/")
        assert (
            before.diff(host.fingerprint(), ignore=lambda category, thing: category == "files" and bool(kept.match(thing))) == []
        )


@pytest.mark.matrix
def test_a_host_without_systemd_is_installed_from_a_bundle(bundle: Path) -> None:
    with TestNetwork(outward=False) as network, Machine(network=network, primed=False, systemd=False) as host:
        product.clone(host)
        host.push(bundle, BUNDLE)
        host.run("ip route del default")
        before = host.fingerprint()
        product.bootstrap(host, *INSTALL[:2], "--non-interactive", "--release", BUNDLE)
        product.create_vm(host, "web1")
        assert "(0 changed" in product.nqr(host, "install", "--non-interactive").stdout
        product.nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
        assert "\n".join(before.diff(host.fingerprint())) == ""


@pytest.mark.matrix
def test_two_builds_are_byte_identical(bundle: Path) -> None:
    again = bundle.with_name("again.tar.zst")
    build(again, bundle.with_name("firecracker.tgz"))
    same = filecmp.cmp(bundle, again, shallow=False)
    again.unlink()
    assert same

"""A bundle for Debian 11, built on one and installed on another without a way out. It brings the Python that Debian 11 lacks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts import product
from tests.hosts.machine import Machine, TestNetwork
from tests.hosts.machine.managed_python import archive
from tests.hosts.product import CLONE, nqr

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(4000)]  # the first run builds a Python
BUNDLE, PUBLIC, ANOTHER = "/mnt/nqrust.tar.zst", "/mnt/key.pub", "/mnt/another.pub"
TOOLS = "rustc-mozilla gcc libc6-dev openssl"
KEYS = "for name in key another; do openssl genpkey -algorithm ed25519 -out $name.pem && openssl pkey -in $name.pem -pubout -out $name.pub; done"


def built(folder: Path) -> dict[str, Path]:
    """The bundle, two public keys, of which the first signed it, and the package zstd, which a bare Debian 11 lacks."""
    python = archive()
    with Machine(suite="bullseye") as host:
        product.clone(host)
        host.write("/root/python.tar.gz", python.path.read_bytes())
        host.run(f"apt-get -q update && apt-get -q -y --no-install-recommends install {TOOLS} && cd /mnt && {KEYS}", timeout=600)
        host.run("cd /mnt && apt-get -q -o APT::Sandbox::User=root download zstd && mv zstd_*.deb zstd.deb", timeout=300)
        env = {"NQR_PYTHON_ARCHIVE": "/root/python.tar.gz", "NQR_PYTHON_SHA256": python.sha256}
        options = ("--output", BUNDLE, "--with", "images", "--key", "/mnt/key.pem")
        host.run([f"{CLONE}/scripts/install/bundle.sh", *options], env=env, timeout=1800)
        found = {path: folder / Path(path).name for path in (BUNDLE, PUBLIC, ANOTHER, "/mnt/zstd.deb")}
        for path, copy in found.items():
            copy.write_bytes((host.root / path.lstrip("/")).read_bytes())
    return found


def test_debian_11_is_installed_from_a_bundle_of_its_own(tmp_path: Path, tell: Callable[[str], None]) -> None:
    files = built(tmp_path)
    with TestNetwork(outward=False) as network, Machine(suite="bullseye", network=network, primed=False) as host:
        product.clone(host)
        for path, copy in files.items():
            host.push(copy, path)
        host.run("dpkg -i /mnt/zstd.deb && ip route del default")
        assert host.run("python3 --version").stdout.startswith("Python 3.9")
        before = host.fingerprint()
        options = ("--mode", "production", "--non-interactive", "--release", BUNDLE)
        refused = product.bootstrap(host, *options, "--release-key", ANOTHER, check=False)
        assert refused.code == 3 and "NQR-DEP-964" in refused.stderr, refused.describe()
        assert not host.exists(product.CACHE)
        began = time.monotonic()
        said = product.bootstrap(host, *options, "--release-key", PUBLIC).stdout
        tell(
            f"Debian 11, {files[BUNDLE].stat().st_size / 1e6:.0f} MB, installed without a network in {time.monotonic() - began:.0f} s"
        )
        assert "FAILED" not in said
        pid = host.run("systemctl show -p MainPID --value nqrust-manager").stdout.strip()
        assert host.run(f"readlink /proc/{pid}/exe").stdout.startswith("/opt/nqrust-microvm/python/3.11")
        product.create_vm(host, "web1")
        host.run(["rm", BUNDLE])
        assert "(0 changed" in nqr(host, "install", "--non-interactive", timeout=600).stdout
        assert nqr(host, "verify", timeout=600).code == 0
        host.push(files[BUNDLE], BUNDLE)
        nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
        assert "\n".join(before.diff(host.fingerprint())) == ""

"""The Debian package of `nqr` and `nqr-installer.pyz` on a real host."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.build_packages import build

from tests.hosts import product
from tests.hosts.machine import Machine
from tests.hosts.product import CACHE, nqr

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

APT = ["apt-get", "-q", "-y", "-o", "APT::Install-Recommends=0"]


def test_package_installs_the_platform_and_goes_after_it(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    pyz, package = build(("pyz", "deb"), tmp_path, tmp_path / "wheels", tmp_path / "work")
    with Machine() as host:
        before = host.fingerprint()
        host.push(package, "/root/nqr.deb")
        host.push(pyz, "/root/nqr-installer.pyz")
        host.run([*APT, "install", "/root/nqr.deb"], timeout=300)
        assert host.run(["nqr", "--version"], user="nobody").stdout.startswith("nqr ")
        assert "changes" in nqr(host, "plan", "--mode", "minimal").stdout
        assert not host.exists(CACHE), "a plan writes nothing"
        host.run([*APT, "remove", "nqr"], timeout=300)
        assert not host.exists("/usr/lib/nqr") and not host.exists("/usr/bin/nqr")

        host.run([*APT, "install", "/root/nqr.deb"], timeout=300)
        nqr(host, "install", "--mode", "minimal", "--non-interactive", timeout=1500)
        assert product.fetch(host, "http://127.0.0.1:18080/health")[0] == 200
        refused = host.run([*APT, "remove", "nqr"], timeout=300, check=False)
        assert refused.code != 0 and "NQR-DEP-908" in refused.stdout + refused.stderr
        assert "(0 changed" in host.run(["/usr/bin/nqr", "install", "--non-interactive"], timeout=600).stdout
        nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
        host.run([*APT, "remove", "nqr"], timeout=300)
        assert not host.exists("/usr/lib/nqr")

        planned = host.run(["python3", "/root/nqr-installer.pyz", "plan", "--mode", "minimal"], timeout=600)
        assert "changes" in planned.stdout and "python3-venv" not in planned.stderr
        host.run(["python3", "/root/nqr-installer.pyz", "uninstall", "--non-interactive"], timeout=600)
        host.run(["rm", "/root/nqr.deb", "/root/nqr-installer.pyz"])
        assert "\n".join(before.diff(host.fingerprint())) == ""

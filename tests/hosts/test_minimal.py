"""Mode `minimal` on a real host: the platform without its web UI. An account has the name of the database role."""

from __future__ import annotations

import pytest

from tests.hosts import product, warm
from tests.hosts.machine import Machine
from tests.hosts.product import fetch, nqr

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1800)]

INSTALL = ("--mode", "minimal", "--non-interactive")


def test_minimal_has_everything_but_the_web_ui() -> None:
    with Machine() as host:
        product.clone(host)
        host.run("useradd --system nexus")  # as Sonatype Nexus brings it
        before = host.fingerprint()
        warm.fill(host)
        product.bootstrap(host, *INSTALL)
        assert fetch(host, "http://127.0.0.1:18080/health")[0] == 200
        assert fetch(host, "http://127.0.0.1:3000/")[0] == 0
        assert not host.exists("/etc/systemd/system/nqrust-ui.service") and not host.exists("/etc/nqrust-microvm/ui.env")
        refused = host.run("cd /; runuser -u nexus -- psql -Atc 'SELECT 1' postgres", check=False)
        assert "pg_hba.conf rejects" in refused.stderr, refused.describe()
        product.create_vm(host, "web1")
        assert "(0 changed" in product.bootstrap(host, *INSTALL).stdout
        assert "(0 changed" in nqr(host, "install", "--non-interactive").stdout, "the mode is remembered"
        nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
        assert "\n".join(before.diff(host.fingerprint())) == ""

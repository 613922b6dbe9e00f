"""TLS of one production install. This machine, on the host's network, is the other machine."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from nqrust.tls import authority, contexts, pinning
from nqrust.tls.authority import Authority, Pair
from tests.documentation import pages
from tests.hosts import product
from tests.hosts.machine import Fingerprint, Machine
from tests.hosts.product import CONFIG, document, eventually, fetch, nqr
from tests.hosts.ready import Ready
from tests.places import ROOT

pytestmark = pytest.mark.timeout(2400)

MANAGER, AGENT, UI = 18080, 19090, 3000
INSTALL = ("install", "--non-interactive")
STRONG = "ECDHE-ECDSA-AES128-GCM-SHA256"
WEAK = ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "DHE-RSA-AES128-GCM-SHA256")
PAGE = "docs/operate/tls.md"


@dataclass
class Site:
    host: Machine
    before: Fingerprint
    folder: Path
    vm: dict[str, Any] = field(default_factory=dict)

    @property
    def authority(self) -> str:
        return self.host.read(f"{CONFIG}/tls/ca.crt")

    @property
    def token(self) -> str:
        return self.host.read(f"{CONFIG}/cli-token").strip()

    def url(self, port: int, scheme: str = "https") -> str:
        return f"{scheme}://{self.host.address}:{port}"

    def ask(self, url: str, *, trusts: str | None = None, token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(verify=contexts.client(trusts or self.authority), trust_env=False, timeout=20) as client:
            return client.get(url, headers=headers)

    def shown(self, port: int) -> str:
        """The certificate that the port presents, as PEM."""
        plain = socket.create_connection((self.host.address, port), 10)
        with contexts.unchecked().wrap_socket(plain) as secured:
            return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")

    def nqr(self, *arguments: str, url: str, trusts: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """`nqr` on this machine."""
        copy = self.folder / "ca.crt"
        copy.write_text(trusts)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("NQR_")},
            "NQR_MANAGER_URL": url,
            "NQR_CA_FILE": str(copy),
            "NQR_TOKEN": self.token,
        }
        return subprocess.run(
            [sys.executable, "-m", "nqrust.cli", *arguments],
            input=typed, env=environment, capture_output=True, timeout=120, check=False, cwd=ROOT,
        )  # fmt: skip


@pytest.fixture(scope="module")
def site(production: Ready, tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(production.host, production.before, tmp_path_factory.mktemp("elsewhere"))
    result = production.result
    assert "https://" in result.stdout and pinning.fingerprint(made.authority)[:16] in result.stdout, result.describe()
    made.vm = product.create_vm(made.host, "web1")
    return made


def handshake(site: Site, port: int, *options: str) -> bool:
    """Whether openssl agrees with the port on a connection."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{site.host.address}:{port}", *options],
        input=b"", capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    return done.returncode == 0 and b"Cipher is (NONE)" not in done.stdout


@pytest.mark.parametrize("port", [MANAGER, AGENT, UI])
def test_other_machines_reach_the_platform_over_tls_only(site: Site, port: int) -> None:
    assert handshake(site, port, "-tls1_2") and handshake(site, port, "-tls1_3")
    if port == AGENT:  # its certificate has the name of the host's record, which only the manager checks
        answer = httpx.get(site.url(port, "http") + "/agent/v1/health", trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (426, "NQR-API-712")
        assert fetch(site.host, f"http://127.0.0.1:{port}/agent/v1/health")[0] == 200
        return
    secured = site.ask(f"{site.url(port)}/health")
    assert secured.status_code == 200 and secured.json()["status"] == "ok"
    assert secured.headers["strict-transport-security"] == "max-age=31536000"
    plain = httpx.get(site.url(port, "http") + "/", trust_env=False)
    assert (plain.status_code, plain.headers["location"]) == (308, f"{site.url(port)}/")
    assert fetch(site.host, f"http://127.0.0.1:{port}/health")[0] == 200, "programs of the host need no certificate"


def test_token_over_plain_http_is_refused(site: Site) -> None:
    answer = httpx.get(f"{site.url(MANAGER, 'http')}/v1/vms", headers={"Authorization": f"Bearer {site.token}"}, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (426, "NQR-API-150")
    assert site.ask(f"{site.url(MANAGER)}/v1/vms", token=site.token).status_code == 200


@pytest.mark.parametrize("port", [MANAGER, AGENT, UI])
def test_old_versions_and_weak_ciphers_are_refused(site: Site, port: int) -> None:
    for version in ("-tls1", "-tls1_1"):
        assert not handshake(site, port, version, "-cipher", "ALL:@SECLEVEL=0"), version
    assert handshake(site, port, "-tls1_2", "-cipher", f"{STRONG}:@SECLEVEL=0")
    for cipher in WEAK:
        assert not handshake(site, port, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0"), cipher


def test_nqr_on_another_machine_trusts_the_authority_file(site: Site) -> None:
    url = site.url(MANAGER)
    listed = site.nqr("vm", "ls", url=url, trusts=site.authority)
    assert listed.returncode == 0 and b"web1" in listed.stdout, listed.stderr
    console = site.nqr("vm", "console", "web1", url=url, trusts=site.authority, typed=b"\n")
    assert b"web1 login:" in console.stdout, console.stderr
    refused = site.nqr("vm", "ls", url=url, trusts=authority.new_authority("another").certificate)
    assert refused.returncode == 1 and b"NQR_CA_FILE" in refused.stderr and b"Traceback" not in refused.stderr


def test_certificates_are_proven(site: Site) -> None:
    verified = product.lines(nqr(site.host, "verify", "--output", "json", timeout=600))
    (proof,) = [one for one in verified[-1]["proofs"] if one["hop"] == "tls"]
    assert proof["verdict"] == "passed" and pinning.fingerprint(site.authority)[:16] in proof["detail"]


def own(site: Site, maker: Authority) -> Pair:
    """A certificate of the administrator, on the host."""
    pair = maker.issue([site.host.address])
    site.host.write("/root/vms.pem", pair.certificate, mode=0o644)
    site.host.write("/root/vms.key", pair.key, mode=0o600)
    return pair


def test_own_certificate_is_shown_and_its_renewal_too(site: Site) -> None:
    made = authority.new_authority("of the administrator")
    maker, inner = Authority(made), site.authority
    first = own(site, maker)
    options = ("--tls-cert", "/root/vms.pem", "--tls-key", "/root/vms.key")
    nqr(site.host, *INSTALL, *options, timeout=900)
    for port in (MANAGER, UI):
        assert site.shown(port).split() == first.certificate.split()
        assert site.ask(f"{site.url(port)}/health", trusts=made.certificate).status_code == 200
    assert "(0 changed" in nqr(site.host, *INSTALL, *options).stdout
    second = own(site, maker)
    nqr(site.host, *INSTALL, timeout=900)  # a re-run remembers the paths
    for port in (MANAGER, UI):
        assert site.shown(port).split() == second.certificate.split()
    hosts = document(site.host, "host", "ls")["items"]
    assert [host["state"] for host in hosts] == ["online"] and site.authority == inner
    assert document(site.host, "vm", "show", "web1")["boot_id"] == site.vm["boot_id"], "VMs do not notice"


@contextmanager
def nginx(site: Site, pair: Pair) -> Iterator[None]:
    """The site of the documentation, on the same machine. It reaches the platform on an address that is not loopback."""
    host = site.host
    host.run(
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nginx-light", timeout=600
    )
    (text,) = [block.text for block in pages.blocks(PAGE) if block.language == "nginx"]
    assert text.count("127.0.0.1") == 2
    for old, new in (("127.0.0.1", host.address), ("vms.example.org;", "_;"), ("listen 443", "listen 8443"),
                     ("/etc/ssl/vms.example.org", "/root/proxy")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    host.write("/root/proxy.pem", pair.certificate, mode=0o644)
    host.write("/root/proxy.key", pair.key, mode=0o600)
    host.write("/etc/nginx/sites-enabled/default", text, mode=0o644)
    host.run("nginx -t && systemctl restart nginx")
    try:
        yield
    finally:
        host.run("DEBIAN_FRONTEND=noninteractive apt-get purge -qy --autoremove 'nginx*'; rm -rf /root/proxy.*", timeout=600)


def test_reverse_proxy_with_tls_off_serves_ui_console_and_api(site: Site) -> None:
    host = site.host
    nqr(host, *INSTALL, "--tls", "off", timeout=900)
    assert "--tls off" in nqr(host, *INSTALL, "--tls", "off").stdout, "it says so loudly on each run"
    made = authority.new_authority("of the proxy")
    proxy = site.url(8443)
    with nginx(site, Authority(made).issue([host.address])):
        page = site.ask(f"{proxy}/sign-in", trusts=made.certificate)
        assert page.status_code == 200 and "; Secure" in page.headers["set-cookie"]
        socket_of_ui = f"{proxy.replace('https', 'wss')}/_nicegui_ws/socket.io/?EIO=4&transport=websocket&client_id=any"
        with connect(socket_of_ui, ssl=contexts.client(made.certificate), origin=proxy) as live:  # type: ignore[arg-type]
            assert str(live.recv(10)).startswith("0{"), "Engine.IO's first packet"
        listed = site.nqr("vm", "ls", url=proxy, trusts=made.certificate)
        assert listed.returncode == 0 and b"web1" in listed.stdout, listed.stderr
        console = site.nqr("vm", "console", "web1", url=proxy, trusts=made.certificate, typed=b"\n")
        assert b"web1 login:" in console.stdout, console.stderr
    assert httpx.get(f"{site.url(UI, 'http')}/sign-in", trust_env=False).status_code == 200
    agent = httpx.get(f"{site.url(AGENT, 'http')}/agent/v1/health", trust_env=False)
    assert agent.status_code == 426, "agents use TLS all the same"
    nqr(host, *INSTALL, "--tls", "on", timeout=900)
    eventually("plain HTTP ends", lambda: httpx.get(f"{site.url(UI, 'http')}/sign-in", trust_env=False).status_code == 308)
    assert document(host, "vm", "show", "web1")["boot_id"] == site.vm["boot_id"], "VMs do not notice"


def test_uninstall_leaves_no_certificate(site: Site) -> None:
    host = site.host
    nqr(host, "vm", "rm", "--force", "web1")
    host.run("rm -f /root/vms.pem /root/vms.key")
    nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=900)
    left = [line for line in site.before.diff(host.fingerprint()) if "nginx" not in line]
    assert "\n".join(left) == ""

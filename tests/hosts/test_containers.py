"""Container images as a new user meets them: an install, a registry on another machine, and the commands of docs/operate/images.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.container_images import Image, Member, busybox, folder, layer
from tests.hosts import product
from tests.hosts.machine import Fingerprint, Machine
from tests.hosts.product import document, eventually, fetch, nqr
from tests.hosts.ready import Ready

pytestmark = pytest.mark.timeout(1500)

REGISTRY = """
set -e
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends docker-registry skopeo
cat >/etc/docker/registry/config.yml
systemctl restart docker-registry
"""
CONFIG = {
    "version": 0.1,
    "storage": {"filesystem": {"rootdirectory": "/var/lib/docker-registry"}},
    "http": {"addr": ":5000"},
}
SITE = Image(
    [busybox("httpd", "cat", "tar", "ls"), layer([folder("srv"), Member("srv/index.html", b"hello\n", mode=0o644)])],
    {"Cmd": ["httpd", "-f", "-v", "-h", "/srv"], "Env": ["PATH=/bin"], "ExposedPorts": {"80/tcp": {}}},
)


def registry(machine: Machine, made: Path) -> str:
    """Make the machine a registry that speaks plain HTTP, with one image. Return the image's reference for other machines."""
    machine.run(REGISTRY, input=json.dumps(CONFIG).encode(), timeout=300)
    SITE.write(made)
    machine.push(made, "/root/site")
    machine.wait_for(
        "skopeo --insecure-policy copy --dest-tls-verify=false oci:/root/site:image docker://127.0.0.1:5000/team/site:1.0"
    )
    return f"{machine.address}:5000/team/site:1.0"


def used(host: Machine, elsewhere: Machine, image: str, tell: Callable[[str], None]) -> None:
    """What a new user types, and what another machine sees of it."""
    started = host.run(f"nqr run -d --name web1 -p 8080:80 --insecure {image}", timeout=400)
    assert started.stdout == "web1\n" and "site-1.0: " in started.stderr, started.describe()
    tell(f"nqr run -d, with its pull: {started.seconds:.0f} s")
    url = f"http://{host.address}:8080/"
    eventually("the site answers", lambda: fetch(elsewhere, url) == (200, "hello\n\n"), 120)
    shown = document(host, "vm", "show", "web1")
    assert (shown["state"], shown["image"], shown["exit_code"]) == ("running", "site-1.0", None)
    eventually("the process writes to the log", lambda: "response:200" in nqr(host, "vm", "logs", "web1").stdout)

    assert host.run("nqr vm exec web1 -- cat /srv/index.html", timeout=120).stdout == "hello\n"
    host.run("nqr vm snapshot create web1 fresh", timeout=400)
    host.run("echo changed >/root/index.html && nqr vm cp /root/index.html web1:/srv/", timeout=120)
    eventually("the site has changed", lambda: fetch(elsewhere, url) == (200, "changed\n\n"))
    host.run("nqr vm cp web1:/srv/index.html /root/copy.html && cmp /root/index.html /root/copy.html", timeout=120)
    host.run("rm /root/index.html /root/copy.html")

    host.run("nqr vm stop web1", timeout=200)
    stopped = document(host, "vm", "show", "web1")
    assert (stopped["state"], stopped["exit_code"]) == ("stopped", 143), "SIGTERM ended it"
    host.run("nqr vm snapshot restore web1 fresh && nqr vm start web1 --wait", timeout=400)
    eventually("the site is as it was", lambda: fetch(elsewhere, url) == (200, "hello\n\n"), 120)

    ended = host.run(["nqr", "run", "--rm", image, "--", "sh", "-c", "echo said; exit 3"], check=False, timeout=400)
    assert (ended.code, ended.stdout) == (3, "said\n"), ended.describe()
    tell(f"nqr run --rm of an image that is there: {ended.seconds:.0f} s")
    assert [vm["name"] for vm in document(host, "vm", "ls")["items"]] == ["web1"]

    host.run("nqr vm rm web1 --force && nqr image rm site-1.0", timeout=200)
    eventually("no VM is left", lambda: document(host, "vm", "ls")["items"] == [])
    assert product.vm_processes(host, shown["id"]) == {} and fetch(elsewhere, url)[0] == 0
    left = host.run(
        "ls -A /srv/fc/vms; ls -A /srv/images; (iptables-save; nft list ruleset) 2>/dev/null | grep 8080", check=False
    )
    assert left.stdout == "tiny\n", left.describe()


def removed(host: Machine, before: Fingerprint) -> None:
    nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600)
    assert "\n".join(before.diff(host.fingerprint())) == ""


def test_a_container_image_runs_after_an_install_and_leaves_nothing(
    production: Ready, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    with Machine(network=production.host.network) as elsewhere:
        image = registry(elsewhere, tmp_path / "site")
        used(production.host, elsewhere, image, tell)
        removed(production.host, production.before)

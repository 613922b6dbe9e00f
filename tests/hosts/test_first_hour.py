"""The first hour of a new user, typed at a real terminal: the guide, a container image, a cloud image, and their removal.

Each command is the one that people guess first who know docker, incus and multipass. `NQR_UPDATE_GOLDEN=1` keeps the screens
for the README's picture; then run scripts/draw_screens.py.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import product, warm
from tests.hosts.machine import Fingerprint, Machine
from tests.hosts.product import document, eventually, fetch
from tests.hosts.terminal import Pane
from tests.hosts.test_containers import CONFIG, REGISTRY, SITE, removed
from tests.live.image import cloud_disks
from tests.live.image.test_cloud_boots import debian
from tests.places import ROOT

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(3600)]

RECORDED = ROOT / "docs/images/first-hour.txt"
IMAGE = "localhost:5000/site:1.0"
COLUMNS = 100


class User:
    """Somebody at a shell, who types a command when the one before has ended."""

    def __init__(self, pane: Pane, before: Fingerprint) -> None:
        self.pane, self.host, self.before = pane, pane.host, before
        self.shown: list[str] = []
        """The screen of each command."""

    def begins(self) -> None:
        self.pane.starts("env PS1='$ ' bash --norc --noprofile -i", columns=COLUMNS, rows=34, folder="/root")
        self.pane.waits_for(r"(?m)^\$ *$", 30)

    def types(self, line: str, timeout: float = 300.0, code: int = 0) -> str:
        """Return what the command printed. Its exit code must be `code`. `line` must fit into one of the terminal."""
        assert len(f"$ {line}") < COLUMNS
        self.host.run("rm -f /root/.ended")
        self.pane.types(f"{line}")
        before = self.pane.text()
        self.pane.keys("Enter")
        end = time.monotonic() + timeout
        while time.monotonic() < end and not self._prompts(line):
            time.sleep(0.3)
        shown = self.pane.text()
        assert self._prompts(line), f"{line} has not ended:\n{shown}"
        after = shown.rstrip().removesuffix("$").rstrip()
        self.shown.append(after.strip())
        said = after[after.rindex(line) + len(line) :].strip()
        self.pane.types("echo code=$?")
        self.pane.keys("Enter")
        ended = self.pane.waits_for(r"(?m)^code=\d+$", 30)
        assert f"code={code}\n" in ended, f"{before}\n---\n{ended}"
        self.pane.keys("C-l")
        return said

    def _prompts(self, line: str) -> bool:
        shown = self.pane.text().rstrip()
        return line in shown and shown.endswith("\n$")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A host with a registry of its own, on which the guide has installed the platform."""
    with Machine() as host:
        product.clone(host)
        host.run(REGISTRY, input=json.dumps(CONFIG).encode(), timeout=300)
        host.run("apt-get -qq -y install tmux openssh-client curl", timeout=300)
        site = tmp_path_factory.mktemp("first") / "site"
        SITE.write(site)
        host.push(site, "/root/site")
        host.wait_for(f"skopeo --insecure-policy copy --dest-tls-verify=false oci:/root/site:image docker://{IMAGE}")
        host.run("rm -r /root/site")
        before = host.fingerprint()
        warm.fill(host)
        pane = Pane(host)
        pane.starts("./scripts/install/install.sh")
        for screen, key in ((r"is ready for", "Enter"), ("Role of this host", "C-n"), ("Exposed", "Enter")):
            pane.waits_for(screen)
            pane.keys(key)
        assert "is installed." in pane.waits_for(r"is installed\.|The install", 1500)
        pane.keys("Enter")
        pane.waits_for("ended with 0")
        yield User(pane, before)


def test_a_container_image_from_its_pull_to_its_removal(user: User) -> None:
    host, url = user.host, f"http://{user.host.address}:8080"
    user.begins()
    user.types("nqr ps -a")
    assert IMAGE in user.types(f"nqr pull --insecure {IMAGE}")
    assert "site-1.0" in user.types("nqr images")
    assert user.types(f"nqr run -d --name web1 -p 8080:80 {IMAGE}").split() == ["web1", "listens", "at", url, "web1"]
    eventually("the site answers", lambda: fetch(host, url)[0] == 200, 120)
    assert "hello" in user.types(f"curl -s {url}")
    assert "running" in user.types("nqr ps")
    assert "index.html" in user.types("nqr exec web1 ls -l /srv")
    assert "response:200" in user.types("nqr logs -n 3 web1")
    user.types("nqr cp web1:/srv/index.html .")
    assert "ready" in user.types("nqr snapshot create web1 clean")
    recording = [screen for screen in user.shown if "nqr cp" not in screen]
    user.types("echo changed > index.html")
    user.types("nqr cp index.html web1:/srv/")
    assert "changed" in user.types(f"curl -s {url}")
    assert "stopped" in user.types("nqr stop web1")
    assert document(host, "vm", "show", "web1")["exit_code"] == 143
    assert "running" in user.types("nqr snapshot restore web1 clean")
    eventually("the site is as it was", lambda: fetch(host, url) == (200, "hello\n\n"), 120)
    user.types("nqr stop --force web1")
    assert document(host, "vm", "show", "web1")["exit_code"] is None, "no process of this run told one"
    user.types("nqr start web1")
    user.types("nqr restart web1")
    assert "web1" in user.types("nqr inspect web1")
    assert "nqr vm rm --force web1" in user.types("nqr rm web1", code=2)
    assert "deleted web1" in user.types("nqr rm -f web1")
    assert "removed site-1.0" in user.types(f"nqr rmi {IMAGE}")
    host.run("rm /root/index.html")
    assert document(host, "vm", "ls")["items"] == []
    if os.environ.get("NQR_UPDATE_GOLDEN"):
        RECORDED.write_text("\n".join(recording) + "\n")


def test_a_cloud_image_with_a_key(user: User, tmp_path: Path) -> None:
    """A Debian as its publisher packs it: GRUB, cloud-init, qcow2."""
    if lacking := cloud_disks.has("qemu-img", "mmdebstrap"):
        pytest.skip(f"needs {' '.join(lacking)}")
    user.host.push(debian(tmp_path), "/root/debian.qcow2")
    user.begins()
    user.types("ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519")
    user.types("nqr image import debian ./debian.qcow2", timeout=600)
    made = "nqr create db1 --image debian --memory 768 --disk 2G --ssh-key .ssh/id_ed25519.pub --timeout 1200"
    assert "running" in user.types(made, timeout=1300)
    assert user.types("nqr ssh db1 cat /etc/hostname", timeout=400).splitlines()[-1] == "db1"
    assert user.types("nqr exec db1 -- hostname", timeout=200) == "db1"
    user.types("nqr cp .ssh/id_ed25519.pub db1:/root/key.pub", timeout=200)
    assert user.types("nqr ssh root@db1 -- wc -l key.pub", timeout=200) == "1 key.pub"
    assert user.types("nqr logs -n 3 db1")
    eventually("the console asks for a login", lambda: "login:" in user.host.run("nqr logs db1").stdout, 300)
    assert "deleted db1" in user.types("nqr rm -f db1")
    assert "removed debian" in user.types("nqr rmi debian")
    user.host.run("rm /root/debian.qcow2 /root/.ssh/id_ed25519 /root/.ssh/id_ed25519.pub")


def test_the_uninstall_leaves_the_host_as_it_was(user: User) -> None:
    user.pane.ends()
    user.host.run("rm -rf /root/.cache/nqr")
    removed(user.host, user.before)

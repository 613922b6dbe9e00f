"""An administrator installs with the guide: a real terminal (tmux, 80 columns), keys, and the platform that comes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.hosts import product, warm
from tests.hosts.machine import Machine
from tests.hosts.product import CONFIG, eventually, fetch
from tests.hosts.terminal import Pane

pytestmark = pytest.mark.timeout(2400)

PASSWORD = "a long password of ann"


@pytest.fixture(scope="module")
def pane() -> Iterator[Pane]:
    with Machine() as host:
        product.clone(host)
        warm.fill(host)
        host.run("apt-get -qq update && apt-get -qq -y install tmux", timeout=300)
        yield Pane(host)


def test_leaving_the_guide_changes_nothing(pane: Pane) -> None:
    pane.starts("./scripts/install/install.sh")
    pane.waits_for("would stop the install|is ready for", 300)
    pane.keys("q")
    shown = pane.waits_for("ended with 0")
    assert "Nothing was changed." in shown and not pane.host.exists("/opt/nqrust-microvm")


def test_ctrl_c_in_the_guide_ends_as_an_interruption(pane: Pane) -> None:
    pane.starts("./scripts/install/install.sh")
    pane.waits_for("is ready for")
    pane.keys("Enter")
    pane.waits_for("Role of this host")
    pane.keys("C-c")
    shown = pane.waits_for("ended with 130")
    assert "NQR-ENG-030" in shown and not pane.host.exists(CONFIG)


def test_the_guide_installs_the_platform(pane: Pane) -> None:
    host = pane.host
    pane.starts("./scripts/install/install.sh")
    pane.waits_for("is ready for")
    pane.keys("Enter")
    pane.waits_for("Role of this host")
    for _ in range(20):
        if "First password of the user admin" in pane.text():
            break
        pane.keys("Down")
        time.sleep(0.3)
    pane.types(PASSWORD)
    assert PASSWORD not in pane.text()
    pane.keys("C-n")
    shown = pane.waits_for("Exposed")
    assert "changes in" in shown and "nqr uninstall" in shown
    pane.keys("Enter")
    pane.waits_for(r"left\b")
    shown = pane.waits_for(r"is installed\.|The install", 1500)
    assert "NQRust-MicroVM is installed." in shown, shown
    assert "nqr vm console web1" in pane.waits_for("nqr vm create web1")
    assert "the password that you chose" in shown and PASSWORD not in shown
    pane.keys("Enter")
    shown = pane.waits_for("ended with 0")
    assert PASSWORD not in shown and "https://" in shown
    assert host.read(f"{CONFIG}/admin-password").strip() == PASSWORD
    logs = host.run("cat /var/log/nqrust-install/*.log").stdout
    assert PASSWORD not in logs and "nqr_" not in logs


def test_the_platform_works_and_a_second_install_changes_nothing(pane: Pane) -> None:
    host = pane.host
    login = {"username": "admin", "password": PASSWORD}
    assert fetch(host, "http://127.0.0.1:18080/v1/auth/login", body=login)[0] == 200
    product.create_vm(host, "web1")
    eventually("it runs", lambda: product.document(host, "vm", "show", "web1")["state"] == "running")
    product.nqr(host, "vm", "rm", "--force", "web1")
    assert "(0 changed" in product.bootstrap(host).stdout
    pane.starts("nqr install")
    pane.waits_for("is installed here")
    pane.keys("Enter")
    pane.waits_for("Role of this host")
    pane.keys("C-n")
    pane.waits_for("0 changes in")
    pane.keys("Enter")
    pane.waits_for("Nothing had to change", 300)
    pane.keys("Enter")
    pane.waits_for("ended with 0")


def test_a_stop_rolls_back(pane: Pane) -> None:
    host = pane.host
    if host.exists("/usr/local/bin/nqr"):
        host.run(["nqr", "uninstall", "--non-interactive", "--purge-data", "--drop-database"], timeout=600)
    pane.starts("./scripts/install/install.sh")
    _to_the_install(pane)
    pane.keys("q")
    pane.waits_for("Stop the install")
    pane.keys("y")
    pane.waits_for("rolls this run back|rolling back")
    shown = pane.waits_for("was interrupted and rolled back", 300)
    assert "nqr install" in shown
    pane.keys("Enter")
    pane.waits_for("ended with 130")
    assert not host.exists("/opt/nqrust-microvm")


def _to_the_install(pane: Pane) -> None:
    pane.waits_for("is ready for")
    pane.keys("Enter")
    pane.waits_for("Role of this host")
    pane.keys("C-n")
    pane.waits_for("Exposed")
    pane.keys("Enter")
    pane.waits_for(r"\d+ of \d+: ")

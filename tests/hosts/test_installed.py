"""Re-runs on an installed host, and the helper scripts in the installation folder.

One install in dev mode, which runs the same platform as production. Each removal starts from a copy of its disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts import product, warm
from tests.hosts.killing import INSTALL
from tests.hosts.machine import Fingerprint, Machine, Result, Snapshot
from tests.hosts.product import document, nqr

pytestmark = pytest.mark.timeout(2400)

SCRIPTS = "/opt/nqrust-microvm/scripts"
UNDO = "/var/lib/nqrust-microvm/undo.sh"
EVERYTHING = "--purge-data --drop-database --non-interactive"


@dataclass
class Installed:
    host: Machine
    before: Fingerprint
    result: Result
    ready: Snapshot


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    with Machine() as host:
        product.clone(host)
        before = host.fingerprint()
        warm.fill(host)
        result = product.bootstrap(host, "--mode", "dev", "--non-interactive")
        yield Installed(host, before, result, host.snapshot())


@pytest.fixture
def host(installed: Installed) -> Iterator[Machine]:
    """As it was installed, whatever the tests before did."""
    installed.host.restore(installed.ready)
    product.eventually("the manager answers", lambda: product.fetch(installed.host, "http://127.0.0.1:18080/health")[0] == 200)
    yield installed.host


def images(host: Machine) -> dict[str, str]:
    return {image["name"]: image["state"] for image in document(host, "image", "ls")["items"]}


def again(host: Machine, *options: str) -> Result:
    return product.bootstrap(host, "--non-interactive", *options, timeout=900)


def in_scripts(host: Machine, command: str, **options: object) -> Result:
    """From within the folder, as a person would."""
    return host.run(f"cd {SCRIPTS} && {command}", timeout=900, check=False, **options)  # type: ignore[arg-type]


def is_as_before(installed: Installed, done: Result) -> None:
    assert done.code == 0, done.describe()
    assert "\n".join(installed.before.diff(installed.host.fingerprint())) == "", done.describe()
    for path in ("/opt/nqrust-microvm", "/var/lib/nqrust-microvm", "/srv/images", product.CACHE):
        assert not installed.host.exists(path), path


def test_dev_mode_installs_the_same_as_production(installed: Installed) -> None:
    assert installed.result.code == 0, installed.result.describe()
    assert "mode        dev" in nqr(installed.host, "status").stdout
    for service in ("manager", "agent", "ui", "dhcp", "network"):
        unit = f"nqrust-{service}"
        assert installed.host.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active", unit


@pytest.mark.parametrize(
    "way", [("install",), pytest.param(("phase", "run", "build"), marks=pytest.mark.matrix)], ids=" ".join
)  # fmt: skip
def test_an_image_that_is_built_again_is_registered(host: Machine, way: tuple[str, ...]) -> None:
    host.run("rm -r /srv/images/tiny")
    nqr(host, "image", "scan")
    assert images(host) == {"tiny": "missing"}
    made = nqr(host, *way, "--non-interactive", timeout=900)
    assert "+ register tiny with the manager" in made.stdout, made.describe()
    assert images(host) == {"tiny": "ready"}
    product.create_vm(host, "web1")
    assert "(0 changed" in again(host).stdout


@pytest.mark.matrix
def test_container_runtime_image_is_built_registered_and_removed(host: Machine) -> None:
    made = again(host, "--with-container-runtime")
    assert images(host) == {"tiny": "ready", "container-runtime": "ready"}, made.describe()
    assert "(0 changed" in again(host).stdout, "remembered, and there"
    back = nqr(host, "rollback", "--non-interactive", timeout=600)
    assert not host.exists("/srv/images/container-runtime")
    assert images(host) == {"tiny": "ready"}, back.describe()


def test_helper_scripts_exist_and_a_re_run_keeps_them(host: Machine) -> None:
    assert host.listdir(SCRIPTS) == ["support-bundle.sh", "undo.sh", "uninstall.sh", "verify.sh"]
    stat = host.stat(UNDO)
    assert stat is not None and stat.mode == 0o700
    again(host)  # the first one after a boot proves it anew
    mark = host.mark()
    assert "(0 changed" in again(host).stdout
    assert product.rewritten(host, mark) == []
    for command in ("verify.sh", "support-bundle.sh --output /root/bundle.tgz"):
        done = in_scripts(host, f"./{command}")
        assert done.code == 0, done.describe()
    assert host.exists("/root/bundle.tgz")


def test_the_undo_script_follows_the_receipt(host: Machine) -> None:
    first = host.read(UNDO)
    assert "/etc/nqrust-microvm/ui.env" in first
    host.run(f"rm {UNDO}")
    again(host)
    assert host.read(UNDO) == first, "written again, though nothing else changed"
    host.run("rm -r /srv/images/tiny /etc/nqrust-microvm/ui.env")
    again(host)
    assert host.read(UNDO).splitlines()[1] != first.splitlines()[1], "of another receipt"
    mark = host.mark()
    shown = in_scripts(host, f"./undo.sh {EVERYTHING} --dry-run")
    assert shown.code == 0 and "undo: create bridge fcbr0" in shown.stdout, shown.describe()
    assert product.rewritten(host, mark) == []


@pytest.mark.parametrize(
    ("broken", "command"),
    [
        pytest.param("true", f"./uninstall.sh {EVERYTHING}", marks=pytest.mark.matrix),
        ("rm -r /opt/nqrust-microvm/installer/venv /usr/local/bin/nqr", f"./uninstall.sh {EVERYTHING}"),
        ("rm -r /opt/nqrust-microvm/installer/venv", f"./undo.sh {EVERYTHING}"),
    ],
    ids=["uninstall.sh", "uninstall.sh without nqr", "undo.sh without nqr"],
)
def test_each_helper_script_removes_everything_from_its_own_folder(
    installed: Installed, host: Machine, broken: str, command: str
) -> None:
    vm = product.create_vm(host, "web1")
    host.run(broken)
    done = in_scripts(host, command)
    assert product.vm_processes(host, vm["id"]) == {}
    is_as_before(installed, done)


@pytest.mark.parametrize("script", ["undo.sh", "uninstall.sh"])
def test_the_data_stays_and_the_undo_script_can_remove_it_later(installed: Installed, host: Machine, script: str) -> None:
    kept = in_scripts(host, f"./{script} --non-interactive")
    assert kept.code == 0, kept.describe()
    assert (f"{UNDO} --purge-data --drop-database" in kept.stdout) is (script == "undo.sh"), kept.describe()
    assert not host.exists("/opt/nqrust-microvm") and host.exists("/srv/images/tiny/image.json")
    is_as_before(installed, host.run(f"{UNDO} {EVERYTHING}", timeout=900, check=False))


def test_no_rollback_takes_a_vm_along(host: Machine) -> None:
    """Not the one of the install, and not one after an uninstall that kept the VM."""
    vm = product.create_vm(host, "web1")
    running, mark = product.vm_processes(host, vm["id"]), host.mark()
    refused = nqr(host, "rollback", "--non-interactive", check=False)
    assert refused.code == 2 and "NQR-USE-030" in refused.stdout + refused.stderr, refused.describe()
    assert "1 VM in /srv/fc/vms" in refused.describe() and "1 VM in the database nexus" in refused.describe()
    assert product.vm_processes(host, vm["id"]) == running and product.rewritten(host, mark) == []
    assert in_scripts(host, "./uninstall.sh --non-interactive").code == 0
    disk = f"/srv/fc/vms/{vm['id']}/disk.ext4"
    assert host.exists(disk)
    back = host.run([INSTALL, "--non-interactive"], env={"NQR_VERB": "rollback"}, check=False, timeout=600)
    assert "There is nothing to roll back." in back.stdout and back.code == 0, back.describe()
    assert host.exists(disk)

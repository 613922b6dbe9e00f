"""Every secret of a production install changes while eight VMs run and a console is open. Nothing drops."""

from __future__ import annotations

import json

import pytest

from nqrust.contract import paths
from tests.hosts import main_job, product
from tests.hosts.main_job import Job
from tests.hosts.product import CONFIG, document, eventually, fetch, nqr
from tests.hosts.ready import Ready

pytestmark = pytest.mark.timeout(2400)

UNITS = ("nqrust-manager", "nqrust-agent", "nqrust-ui")
OPEN = """
mkfifo /run/typed
setsid sh -c 'exec 3<>/run/typed; nqr vm console web1 <&3 >/run/shown 2>&1; echo over >/run/over' </dev/null >/dev/null 2>&1 &
"""
OTHERS = tuple(f"other{number}" for number in range(7))
SECRETS = paths.SECRETS_JSON


@pytest.fixture(scope="module")
def installed(production: Ready) -> Job:
    job = production.job()
    job.vm = product.create_vm(job.host, "web1")
    for name in OTHERS:
        nqr(job.host, "vm", "create", "--name", name, "--image", "tiny", "--memory", "128", "--start")
    for name in OTHERS:
        eventually(f"{name} has booted", lambda name=name: bool(document(job.host, "vm", "show", name).get("boot_id")), 600)
    return job


def started(job: Job) -> dict[str, str]:
    """The process of each service."""
    show = ["systemctl", "show", "--property=MainPID", "--value"]
    return {unit: job.host.run([*show, unit]).stdout.strip() for unit in UNITS}


def vms(job: Job) -> dict[str, tuple[str, dict[int, str]]]:
    """Name -> boot id and processes, of each VM."""
    found = {name: document(job.host, "vm", "show", name) for name in ("web1", *OTHERS)}
    return {name: (vm["boot_id"], product.vm_processes(job.host, vm["id"])) for name, vm in found.items()}


def test_everything_rotates_under_running_vms_and_an_open_console(installed: Job) -> None:
    host = installed.host
    before, running, services = json.loads(host.read(SECRETS)), vms(installed), started(installed)
    former = host.read(f"{CONFIG}/cli-token").strip()
    host.run(OPEN)
    eventually("the console is open", lambda: _answers(installed), 60)
    done = nqr(host, "rotate", "--non-interactive", timeout=900)
    assert done.code == 0, done.describe()
    eventually("the same console still answers", lambda: _answers(installed), 60)
    assert not host.exists("/run/over")
    assert vms(installed) == running and all(boot and processes for boot, processes in running.values())
    assert started(installed) == services, "no service was restarted"
    after = json.loads(host.read(SECRETS))
    kept = {"version", "admin_password", "admin_password_salt", "admin_password_hash", "ui_storage_secret"}
    assert {name for name in before if before[name] == after[name]} >= kept
    assert after["cli_token"] != before["cli_token"] and after["db_password"] != before["db_password"]
    assert after["authority"] != before["authority"]
    assert fetch(host, "http://127.0.0.1:18080/v1/vms", token=former)[0] == 401
    assert nqr(host, "verify", timeout=600).code == 0


def _answers(installed: Job) -> bool:
    """Whether Enter in the open console brings another prompt."""
    assert not installed.host.exists("/run/over"), installed.host.read("/run/shown")[-2000:]
    before = installed.host.run("wc -c < /run/shown || echo 0").stdout.strip()
    installed.host.run("echo > /run/typed")
    installed.host.run(["sleep", "2"])
    return installed.host.run("wc -c < /run/shown || echo 0").stdout.strip() != before


def test_install_after_a_rotation_changes_nothing(installed: Job) -> None:
    main_job.again_changes_nothing(installed)


def test_database_restart_finds_the_new_password(installed: Job) -> None:
    installed.host.run(["systemctl", "restart", "postgresql"])
    eventually("the manager is healthy", lambda: fetch(installed.host, "http://127.0.0.1:18080/health")[0] == 200, 120)
    assert document(installed.host, "vm", "show", "web1")["state"] == "running"


def test_uninstall_leaves_nothing(installed: Job) -> None:
    main_job.uninstall_keeps_data(installed)
    main_job.purge_later_leaves_nothing(installed)

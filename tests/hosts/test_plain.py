"""The README's first command, run as root from a clone on a minimal Debian 12: no systemd, no sudo, root locked."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.documentation import pages
from tests.hosts import dry_runs, main_job, product
from tests.hosts.bases import lived_in, machine_named
from tests.hosts.machine import Machine, Snapshot
from tests.hosts.main_job import Job
from tests.hosts.product import CONFIG, document, eventually, fetch, nqr

pytestmark = pytest.mark.timeout(2400)

INSTALL = ("--non-interactive",)
ALL = {"manager", "agent", "ui", "supervisord", "dnsmasq", "postgres"}


@pytest.fixture(scope="module")
def installed(tell: Callable[[str], None]) -> Iterator[Job]:
    with lived_in(machine_named("least"), "plain") as lived:
        job = main_job.begin(lived, INSTALL, first=dry_runs.before_any_install)
        yield job
        tell(job.line())


def daemons(host: Machine) -> dict[str, int]:
    """Program of each service -> its process number."""
    script = (
        "import os,json\nwanted={'/bin/manager':'manager','/bin/agent':'agent','/bin/ui':'ui','/bin/supervisord':'supervisord',"
        "'/usr/sbin/dnsmasq':'dnsmasq','/bin/postgres':'postgres'}\nfound={}\n"
        "for p in sorted((int(p) for p in os.listdir('/proc') if p.isdigit()), reverse=True):\n"
        "  try: words=open(f'/proc/{p}/cmdline').read().split('\\0')[:3]\n"
        "  except OSError: continue\n"
        "  for text,name in wanted.items():\n"
        "    if any(w.endswith(text) for w in words): found[name]=p\n"
        "print(json.dumps(found))"
    )
    found: dict[str, int] = json.loads(host.run(["python3", "-c", script]).stdout)
    return found


def test_everything_runs_under_supervisord(installed: Job) -> None:
    assert installed.result is not None and installed.result.code == 0
    assert set(daemons(installed.host)) == ALL
    for url in ("http://127.0.0.1:18080/health", "http://127.0.0.1:19090/agent/v1/health", "http://127.0.0.1:3000/"):
        assert fetch(installed.host, url)[0] == 200, url
    said = nqr(installed.host, "status").stdout
    assert "supervisord" in said and "production" in said


def test_a_vm_survives_its_agent_and_manager(installed: Job) -> None:
    host = installed.host
    installed.vm = product.create_vm(host, "web1")
    product.guest_reaches(host, installed.vm)
    product.console_prompt(host, "web1")
    processes = product.vm_processes(host, installed.vm["id"])
    assert processes
    for service in ("agent", "manager"):
        before = daemons(host)[service]
        host.run(f"kill -9 {before}")
        eventually(f"{service} is back", lambda service=service, before=before: daemons(host).get(service, before) != before)
    eventually("the manager answers", lambda: fetch(host, "http://127.0.0.1:18080/health")[0] == 200)
    eventually("the agent found the VM again", lambda: document(host, "vm", "show", "web1")["state"] == "running")
    assert product.vm_processes(host, installed.vm["id"]) == processes
    assert document(host, "vm", "show", "web1")["boot_id"] == installed.vm["boot_id"]
    product.console_prompt(host, "web1")


def test_the_vm_reaches_the_outside(installed: Job) -> None:
    main_job.a_vm_runs_and_reaches_the_outside(installed)


def test_the_same_command_again_changes_nothing(installed: Job) -> None:
    host = installed.host
    before, token = daemons(host), host.read(f"{CONFIG}/cli-token")
    main_job.again_changes_nothing(installed)
    assert daemons(host) == before, "no service was restarted"
    assert host.read(f"{CONFIG}/cli-token") == token


def test_no_dry_run_changes_anything(installed: Job) -> None:
    before = daemons(installed.host)
    dry_runs.on_an_installed_host(installed.host)
    assert daemons(installed.host) == before, "no service was restarted"


def test_component_is_switched_off_and_on(installed: Job) -> None:
    main_job.a_component_goes_and_comes(installed)
    assert "ui" in daemons(installed.host)


def test_an_image_that_is_built_again_is_registered(installed: Job) -> None:
    host = installed.host
    host.run("rm -r /srv/images/tiny")
    nqr(host, "image", "scan")
    assert [image["state"] for image in document(host, "image", "ls")["items"]] == ["missing"]
    nqr(host, "phase", "run", "build", timeout=900)
    assert [image["state"] for image in document(host, "image", "ls")["items"]] == ["ready"]


def test_vm_is_stopped_and_removed(installed: Job) -> None:
    host = installed.host
    nqr(host, "vm", "stop", "web1")
    assert product.vm_processes(host, installed.vm["id"]) == {}
    nqr(host, "vm", "start", "web1")
    nqr(host, "vm", "rm", "--force", "web1")
    assert document(host, "vm", "ls")["items"] == []
    assert product.vm_processes(host, installed.vm["id"]) == {}
    installed.vm = {}


@pytest.fixture(scope="module")
def rebooted(installed: Job) -> Snapshot:
    """Its disk after a shutdown; nothing starts the services of a machine without an init system."""
    return installed.host.snapshot()


def test_after_a_reboot_the_same_command_brings_everything_back(installed: Job, rebooted: Snapshot) -> None:
    host = installed.host
    assert daemons(host) == {}
    product.bootstrap(host, *INSTALL)
    assert set(daemons(host)) == ALL
    assert "(0 changed" in product.bootstrap(host, *INSTALL).stdout


def test_after_a_reboot_one_command_brings_the_services_back(installed: Job) -> None:
    """The command is in docs/operate/without-systemd.md. The host has no init system to start the services."""
    host = installed.host
    product.create_vm(host, "auto")
    host.reboot()
    assert daemons(host) == {} and nqr(host, "services", "status", check=False).code == 1
    (line,) = [code for code in pages.inline("docs/operate/without-systemd.md") if code == "nqr services start"][:1]
    said = host.run(line, timeout=300).stdout
    assert said.endswith("All services run under supervisord.\n") and set(daemons(host)) == ALL
    for url in ("http://127.0.0.1:18080/health", "http://127.0.0.1:19090/agent/v1/health", "http://127.0.0.1:3000/"):
        assert fetch(host, url)[0] == 200, "the command waits for it"
    assert nqr(host, "verify").code == 0 and nqr(host, "services", "status").code == 0
    eventually("its VM runs again", lambda: document(host, "vm", "show", "auto")["state"] == "running", 180)
    before = daemons(host)
    assert "runs now" not in nqr(host, "services", "start").stdout and daemons(host) == before
    nqr(host, "vm", "rm", "--force", "auto")


def test_a_container_that_ends_asks_its_guests_and_its_next_start_brings_all_back(installed: Job) -> None:
    """As its entrypoint does: docs/operate/without-systemd.md."""
    host = installed.host
    vms = {name: product.create_vm(host, name, *more) for name, more in (("auto", ()), ("manual", ("--no-autostart",)))}
    limits = vms["auto"]["limits"]
    entrypoint = host.start(["nqr", "services", "start", "--wait"])
    eventually("it waits", lambda: entrypoint.text().endswith("Waiting for SIGTERM.\n"))
    entrypoint.signal(signal.SIGTERM)
    assert entrypoint.wait(150) == 0, entrypoint.text()
    assert "Asking 2 VMs to power off" in entrypoint.text() and entrypoint.text().endswith("All services are stopped.\n")
    assert daemons(host) == {}
    for vm in vms.values():
        log = host.run("tail -n 20 /var/log/nqrust-microvm/nqrust-agent.log").stdout
        assert product.vm_processes(host, vm["id"]) == {}, log
        features = host.run(["dumpe2fs", "-h", f"/srv/fc/vms/{vm['id']}/disk.ext4"]).stdout
        assert "needs_recovery" not in features, "the guest unmounted its disk"
    host.reboot()
    nqr(host, "services", "start")
    assert set(daemons(host)) == ALL
    eventually(
        "its VM runs again", lambda: document(host, "vm", "show", "auto")["boot_id"] not in (None, vms["auto"]["boot_id"]), 180
    )
    assert document(host, "vm", "show", "auto")["limits"] == limits
    eventually("the other stays off", lambda: document(host, "vm", "show", "manual")["desired_state"] == "stopped", 60)
    assert document(host, "vm", "show", "manual")["state"] == "stopped"
    for name in vms:
        nqr(host, "vm", "rm", "--force", name)


def test_uninstall_with_a_running_vm_leaves_nothing(installed: Job) -> None:
    host = installed.host
    last = product.create_vm(host, "last")
    result = host.run(
        [f"{product.CLONE}/scripts/install/uninstall.sh", "--purge-data", "--drop-database", "--non-interactive"], timeout=900
    )
    assert product.vm_processes(host, last["id"]) == {}
    assert daemons(host) == {}
    assert "\n".join(main_job.differences(installed)) == "", result.describe()
    assert [path for path in main_job.GONE if host.exists(path)] == []


def test_uninstall_after_a_reboot_keeps_data_and_a_purge_later_leaves_nothing(installed: Job, rebooted: Snapshot) -> None:
    """No service runs after the reboot, and neither does the database server."""
    installed.host.restore(rebooted)
    main_job.uninstall_keeps_data(installed)
    main_job.purge_later_leaves_nothing(installed)


@pytest.mark.matrix
def test_undo_script_without_nqr_leaves_nothing_while_a_vm_runs(installed: Job) -> None:
    host = installed.host
    product.bootstrap(host, *INSTALL)
    last = product.create_vm(host, "last")
    nqr(host, "uninstall", "--script", "/root/undo.sh", "--purge-data", "--drop-database")
    host.run("rm -rf /usr/local/bin/nqr /var/cache/nqrust-microvm")
    done = host.run("sh /root/undo.sh && rm /root/undo.sh", timeout=600)
    assert "Could not" not in done.stderr, done.describe()
    assert product.vm_processes(host, last["id"]) == {} and daemons(host) == {}
    assert "\n".join(main_job.differences(installed)) == "", done.describe()

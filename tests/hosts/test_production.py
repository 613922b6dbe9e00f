"""One production install on a Debian 12 server with ufw and netplan, and everything an administrator does with it, in order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hosts import lost_records, main_job, privileges, product, warm
from tests.hosts.bases import lived_in, machine_named
from tests.hosts.machine import Machine
from tests.hosts.main_job import Job
from tests.hosts.product import CONFIG, document, eventually, fetch, nqr

pytestmark = pytest.mark.timeout(2400)

UNITS = ("nqrust-network", "nqrust-dhcp", "nqrust-manager", "nqrust-agent", "nqrust-ui")
HEALTH = {
    "manager": "http://127.0.0.1:18080/health",
    "agent": "http://127.0.0.1:19090/agent/v1/health",
    "ui": "http://127.0.0.1:3000/",
}
INSTALL = ("--mode", "production", "--non-interactive")


@pytest.fixture(scope="module")
def installed(tell: Callable[[str], None]) -> Iterator[Job]:
    with lived_in(machine_named("server"), "systemd") as lived:
        job = main_job.begin(lived, INSTALL, first=warm.fill)
        yield job
        tell(job.line())


def unit(host: Machine, name: str, *properties: str) -> dict[str, str]:
    shown = host.run(["systemctl", "show", name, f"--property={','.join(properties)}"]).stdout
    return dict(line.split("=", 1) for line in shown.splitlines())


def secrets(host: Machine) -> dict[str, str]:
    files = (
        f"{CONFIG}/manager.env",
        f"{CONFIG}/admin-password",
        f"{CONFIG}/cli-token",
        f"{CONFIG}/join-token",
        f"{CONFIG}/bootstrap.json",
    )
    return {path: host.read(path) for path in files}


# --- what the install leaves


def test_the_summary_says_where_to_go_next(installed: Job) -> None:
    assert installed.result is not None
    said = installed.result.stdout
    for expected in ("http://", ":18080", ":3000", "admin-password", "nqr vm create"):
        assert expected in said, installed.result.describe()
    assert installed.result.code == 0
    log = installed.host.listdir("/var/log/nqrust-install")
    stat = installed.host.stat(f"/var/log/nqrust-install/{log[0]}")
    assert stat is not None and stat.mode == 0o600
    assert re.search(r"emulat", said, re.IGNORECASE) or "firecracker" in said.lower(), "which VMM it came to is said loudly"


def test_services_are_active_and_enabled(installed: Job) -> None:
    for name in UNITS:
        state = unit(installed.host, name, "ActiveState", "UnitFileState")
        assert state == {"ActiveState": "active", "UnitFileState": "enabled"}, name
    assert unit(installed.host, "postgresql@15-main", "ActiveState")["ActiveState"] == "active"


def test_health_answers(installed: Job) -> None:
    for name, url in HEALTH.items():
        status, body = fetch(installed.host, url)
        assert status == 200, (name, status, body)
    assert json.loads(fetch(installed.host, HEALTH["manager"])[1])["status"] == "ok"
    assert {"version", "kvm", "time"} <= set(json.loads(fetch(installed.host, HEALTH["agent"])[1]))
    assert fetch(installed.host, "http://127.0.0.1:18080/v1/vms")[0] == 401, "nothing but health without credentials"


def test_install_proves_the_canary_vm(installed: Job) -> None:
    """The canary booted, got a lease, reported, reached its gateway, and left nothing behind."""
    verified = nqr(installed.host, "verify", "--output", "json", timeout=600)
    proofs = {one["hop"]: one for one in product.lines(verified)[-1]["proofs"]}
    assert {proof["verdict"] for proof in proofs.values()} == {"passed"}, verified.describe()
    assert {"binaries", "manager", "agent", "ui", "database", "bridge", "dhcp", "vmm", "tap", "guest", "lease", "gateway"} <= set(
        proofs
    )
    assert document(installed.host, "vm", "ls")["items"] == []
    assert "tap" not in installed.host.run("ls /sys/class/net").stdout


def test_files_modes_and_owners(installed: Job) -> None:
    host = installed.host
    expected = {
        f"{CONFIG}/manager.env": (0o640, "root", "nqrust"),
        f"{CONFIG}/database-password": (0o640, "root", "nqrust"),
        f"{CONFIG}/agent.env": (0o600, "root", "root"),
        f"{CONFIG}/ui.env": (0o640, "root", "nqrust-ui"),
        f"{CONFIG}/config.yaml": (0o640, "root", "nqrust"),
        f"{CONFIG}/admin-password": (0o600, "root", "root"),
        f"{CONFIG}/cli-token": (0o600, "root", "root"),
        f"{CONFIG}/join-token": (0o600, "root", "root"),
        "/etc/systemd/system/nqrust-manager.service": (0o644, "root", "root"),
        "/opt/nqrust-microvm": (0o755, "root", "root"),
        "/opt/nqrust-microvm/bin": (0o755, "root", "root"),
        "/opt/nqrust-microvm/backups": (0o700, "root", "root"),
        "/srv/fc": (0o755, "root", "root"),
        "/srv/fc/vms": (0o711, "root", "root"),
        "/srv/images": (0o1775, "root", "nqrust"),
        "/var/lib/nqrust-microvm/journal.jsonl": (0o600, "root", "root"),
        "/var/lib/nqrust-microvm/secrets.json": (0o600, "root", "root"),
    }
    found = {path: host.stat(path) for path in expected}
    assert {path: (stat.mode, stat.owner, stat.group) if stat else None for path, stat in found.items()} == expected
    for name in ("manager", "agent", "guest-agent"):
        assert host.run(["test", "-x", f"/opt/nqrust-microvm/bin/{name}"], check=False).ok, name
    assert host.run(["visudo", "-c"]).ok and not host.exists("/etc/sudoers.d/nqrust")
    assert "NoNewPrivs:\t1" in host.run("cat /proc/$(systemctl show -P MainPID nqrust-manager)/status").stdout
    kvm = host.stat("/dev/kvm")
    assert kvm is None or (kvm.mode, kvm.group) == (0o660, "kvm")
    assert not host.run("find /opt/nqrust-microvm -xdev -user nqrust -type f -perm /0111", check=False).stdout, (
        "root runs programs from there, so the service user owns none of them"
    )


def test_units_have_no_more_privileges_than_they_need(installed: Job) -> None:
    privileges.are_what_systemd_analyze_allows(installed.host)


def test_the_web_ui_can_read_nothing_of_the_manager(installed: Job) -> None:
    privileges.of_the_web_ui(installed.host)


def test_the_database_password_has_32_characters_and_is_nowhere_else(installed: Job) -> None:
    password = installed.host.read(f"{CONFIG}/database-password").strip()
    assert re.fullmatch(r"[A-Za-z0-9]{32}", password)
    found = installed.host.run(
        ["grep", "-rlsF", password, "/etc", "/var/log", "/tmp", "/opt", "/var/cache/nqrust-microvm"], check=False
    )
    assert found.stdout.split() == [f"{CONFIG}/database-password"]
    assert installed.result is not None and password not in installed.result.stdout + installed.result.stderr


def test_the_administrator_can_sign_in(installed: Job) -> None:
    password = installed.host.read(f"{CONFIG}/admin-password").strip()
    login = "http://127.0.0.1:18080/v1/auth/login"
    assert fetch(installed.host, login, body={"username": "admin", "password": password})[0] == 200
    assert fetch(installed.host, login, body={"username": "admin", "password": "admin"})[0] == 401


# --- VMs


def test_vm_is_created_listed_and_reached_by_console(installed: Job) -> None:
    host = installed.host
    installed.vm = product.create_vm(host, "web1")
    listed = document(host, "vm", "ls")["items"]
    assert [vm["name"] for vm in listed] == ["web1"]
    assert {
        "id",
        "name",
        "state",
        "desired_state",
        "host",
        "ip",
        "mac",
        "boot_id",
        "image",
        "vcpus",
        "memory_mib",
        "created_at",
    } <= set(listed[0])
    assert (listed[0]["vcpus"], listed[0]["memory_mib"], listed[0]["image"]) == (1, 256, "tiny")
    product.guest_reaches(host, installed.vm)
    product.console_prompt(host, "web1")
    scope = unit(host, f"fc-{installed.vm['id']}.scope", "ActiveState")
    assert scope["ActiveState"] == "active"


def test_the_vm_reaches_the_outside_beside_ufw(installed: Job) -> None:
    main_job.a_vm_runs_and_reaches_the_outside(installed)


def same_vm(installed: Job, processes: dict[int, str]) -> dict[str, Any] | None:
    shown: dict[str, Any] = document(installed.host, "vm", "show", "web1")
    assert product.vm_processes(installed.host, shown["id"]) == processes, "the VM's processes are the same ones"
    assert shown["boot_id"] == installed.vm["boot_id"], "it did not boot again"
    return shown if shown["state"] == "running" else None


@pytest.mark.parametrize("how", ["restart", "kill -9"])
@pytest.mark.parametrize("service", ["nqrust-agent", "nqrust-manager"])
def test_vm_survives_a_restart_or_kill_of_each_service(installed: Job, service: str, how: str) -> None:
    host = installed.host
    processes = product.vm_processes(host, installed.vm["id"])
    assert any("qemu" in comm or "firecracker" in comm for comm in processes.values())
    before = unit(host, service, "MainPID")["MainPID"]
    if how == "restart":
        host.run(["systemctl", "restart", service])
    else:
        host.run(f"kill -9 {before}")
    eventually(f"{service} is back", lambda: unit(host, service, "MainPID")["MainPID"] not in ("0", before))
    eventually("it answers", lambda: fetch(host, HEALTH[service.removeprefix("nqrust-")])[0] == 200)
    eventually("the VM is known again", lambda: same_vm(installed, processes))
    product.console_prompt(host, "web1")


def test_vm_without_a_record_runs_until_an_operator_decides(installed: Job) -> None:
    processes = product.vm_processes(installed.host, installed.vm["id"])
    lost_records.emptied_and_restored(installed.host, installed.vm, lambda: same_vm(installed, processes))


def test_vm_start_fails_for_a_dead_vm_while_the_reconciler_observes(installed: Job) -> None:
    lost_records.killed_unnoticed(installed.host)


def test_vm_create_refuses_impossible_requests(installed: Job) -> None:
    for arguments, code, what in (
        (("--memory", "900G"), "NQR-API-139", "needs 900 GiB"),
        (("--ssh-key", "ssh-ed25519 AAAA me"), "NQR-USE-003", "ssh-ed25519 AAAA me"),
    ):
        refused = nqr(installed.host, "vm", "create", "--name", "never1", "--image", "tiny", *arguments, check=False)
        assert refused.code != 0 and code in refused.stderr and what in refused.stderr, refused.describe()
    assert nqr(installed.host, "vm", "show", "never1", check=False).code != 0


def test_vm_is_stopped_started_and_removed(installed: Job) -> None:
    """The agent was restarted and found the VM again, so it can stop it."""
    host = installed.host
    refused = nqr(host, "volume", "attach", "web1", "--size", "24M", check=False)
    assert "NQR-API-127" in refused.stderr, refused.describe()
    nqr(host, "vm", "stop", "web1")
    assert document(host, "vm", "show", "web1")["state"] == "stopped"
    assert product.vm_processes(host, installed.vm["id"]) == {}
    (attached,) = document(host, "volume", "attach", "web1", "--size", "24M")["volumes"]
    assert (attached["device"], attached["size_mib"], attached["change"]) == ("vdb", 24, None)
    nqr(host, "vm", "start", "web1")
    shown = eventually("it has booted again", lambda: _booted(host, "web1", installed.vm["boot_id"]), 120)
    assert shown["id"] == installed.vm["id"] and shown["ip"] == installed.vm["ip"]
    product.typed(host, "web1", "root")
    assert f"[{24 * 2048}]" in product.typed(host, "web1", "echo [$(cat /sys/block/vdb/size)]"), "its guest has it, in sectors"
    second = product.create_vm(host, "web2")
    nqr(host, "vm", "rm", "--force", "web2")
    assert [vm["name"] for vm in document(host, "vm", "ls")["items"]] == ["web1"]
    assert product.vm_processes(host, second["id"]) == {}
    assert not host.exists(f"/srv/fc/vms/{second['id']}")
    assert second["tap"] not in host.run("ls /sys/class/net").stdout


def test_templates_limits_kept_volumes_and_a_snapshot_of_a_running_vm(installed: Job) -> None:
    host = installed.host
    nqr(host, "template", "create", "--name", "small", "--image", "tiny", "--tag", "db", "--net-rx", "50M", "--net-tx", "20M")
    nqr(
        host,
        "vm",
        "create",
        "--name",
        "db1",
        "--template",
        "small",
        "--volume",
        "32:keep",
        "--disk-iops",
        "800",
        "--wait",
        timeout=400,
    )
    shown = document(host, "vm", "show", "db1")
    assert (shown["tags"], shown["rate_limits"]["disk_iops"], shown["rate_limits"]["net_rx_kbit"]) == (["db"], 800, 50_000)
    nqr(host, "vm", "limit", "db1", "--net-tx", "30M")
    eventually("the TAP is limited", lambda: "rate 30Mbit" in host.run("tc qdisc show").stdout)
    made = document(host, "vm", "snapshot", "create", "db1", "live")
    assert (made["kind"], made["state"]) == ("full", "ready"), made
    before = document(host, "vm", "show", "db1")
    nqr(host, "vm", "stop", "db1")
    assert "ifb" not in "".join(line for line in host.run("ls /sys/class/net").stdout.split() if len(line) == 14)
    nqr(host, "vm", "snapshot", "restore", "db1", "live")
    again = eventually("it goes on", lambda: _running(host, "db1"))
    assert again["boot_id"] in (None, before["boot_id"]), "it did not boot"
    nqr(host, "vm", "rm", "--force", "db1")
    (kept,) = document(host, "volume", "ls")["items"]
    assert (kept["name"], kept["vm"]) == (f"db1-vdb-{shown['id']}", None)
    nqr(host, "vm", "create", "--name", "db2", "--image", "tiny", "--volume", "db1-vdb", "--no-start", "--wait")
    refused = nqr(host, "volume", "rm", kept["name"], check=False)
    assert "NQR-API-123" in refused.stderr, refused.describe()
    assert document(host, "volume", "detach", "db2", "vdb")["volumes"] == []
    assert [(volume["name"], volume["vm"]) for volume in document(host, "volume", "ls")["items"]] == [(kept["name"], None)]
    assert host.listdir("/srv/fc/volumes") == [f"{kept['name']}.raw"]
    nqr(host, "volume", "attach", "db2", "--name", "db1-vdb")
    assert document(host, "volume", "ls")["items"][0]["vm"] == "db2" and host.listdir("/srv/fc/volumes") == []
    nqr(host, "vm", "rm", "--force", "db2")
    nqr(host, "volume", "rm", kept["name"])
    nqr(host, "template", "rm", "small")
    assert host.listdir("/srv/fc/volumes") == []


def _running(host: Machine, name: str) -> dict[str, Any] | None:
    shown: dict[str, Any] = document(host, "vm", "show", name)
    return shown if shown["state"] == "running" else None


def _booted(host: Machine, name: str, before: str) -> dict[str, Any] | None:
    shown: dict[str, Any] = document(host, "vm", "show", name)
    return shown if shown["state"] == "running" and shown["boot_id"] not in (None, before) else None


def test_ufw_and_netplan_are_reloaded_and_the_vm_still_reaches_the_outside(installed: Job) -> None:
    main_job.the_neighbour_is_reloaded(installed)


# --- again


def test_the_same_command_again_changes_nothing(installed: Job) -> None:
    host = installed.host
    starts = {name: unit(host, name, "ActiveEnterTimestampMonotonic", "MainPID") for name in UNITS}
    kept, mark = secrets(host), host.mark()
    processes = product.vm_processes(host, installed.vm["id"])
    again = product.bootstrap(host, *INSTALL, timeout=200)
    assert "(0 changed" in again.stdout, again.describe()
    assert {name: unit(host, name, "ActiveEnterTimestampMonotonic", "MainPID") for name in UNITS} == starts
    assert product.rewritten(host, mark) == []
    assert secrets(host) == kept
    assert product.vm_processes(host, installed.vm["id"]) == processes


def test_json_lines_and_plan_of_a_converged_host(installed: Job) -> None:
    said = nqr(installed.host, "install", "--non-interactive", "--output", "json", timeout=200)
    last = product.lines(said)[-1]
    assert (last["outcome"], last["changed"]) == ("ok", 0) and last["satisfied"] > 50
    assert set(last["urls"]) == {"manager", "agent", "ui"}
    assert {"name", "changed", "seconds"} <= set(last["phases"][0])
    assert nqr(installed.host, "plan", "--detailed-exitcode", check=False).code == 0


def test_status_reports_drift_and_install_repairs_it(installed: Job) -> None:
    host = installed.host
    said = nqr(host, "status").stdout
    assert "production" in said and "nqrust-manager" in said
    host.run(f"chmod 644 {CONFIG}/manager.env")
    drifted = nqr(host, "status", check=False)
    assert f"{CONFIG}/manager.env" in drifted.stdout, "a changed mode is told"
    back = nqr(host, "install", "--non-interactive", "--output", "json", timeout=200)
    assert product.lines(back)[-1]["changed"] >= 1
    stat = host.stat(f"{CONFIG}/manager.env")
    assert stat is not None and stat.mode == 0o640


def test_component_is_switched_off_and_on(installed: Job) -> None:
    installed.vm = document(installed.host, "vm", "show", "web1")
    main_job.a_component_goes_and_comes(installed)


@pytest.mark.matrix
def test_a_reboot_brings_back_ufw_and_the_vm_network(installed: Job) -> None:
    main_job.a_reboot_brings_both_back(installed)


# --- out, in again, and out for good


def test_uninstall_keeps_data_and_a_new_install_picks_it_up(installed: Job) -> None:
    host = installed.host
    password = host.read(f"{CONFIG}/admin-password").strip()
    gone = nqr(host, "uninstall", "--non-interactive", timeout=600)
    assert gone.code == 0
    assert product.logs_that_are_gone(host, gone) == []
    assert host.exists(f"/srv/fc/vms/{installed.vm['id']}") and host.exists("/srv/images")
    assert not host.exists(CONFIG) and not host.exists("/opt/nqrust-microvm")
    assert "--purge-data" in gone.stdout and "--drop-database" in gone.stdout, "it says what is still there"
    assert product.vm_processes(host, installed.vm["id"]) == {}

    refused = product.bootstrap(host, *INSTALL, env={"IMAGE_DIR": "/etc"}, check=False)
    assert refused.code == 3 and "NQR-PRE-055" in refused.stdout + refused.stderr, refused.describe()
    product.bootstrap(host, *INSTALL)
    shown = document(host, "vm", "show", "web1")
    assert (shown["id"], shown["mac"]) == (installed.vm["id"], installed.vm["mac"])
    eventually("it runs again", lambda: document(host, "vm", "show", "web1")["state"] == "running", 180)
    login = {"username": "admin", "password": host.read(f"{CONFIG}/admin-password").strip()}
    assert login["password"] == password
    assert fetch(host, "http://127.0.0.1:18080/v1/auth/login", body=login)[0] == 200


def test_uninstall_again_and_purge_later_leave_nothing(installed: Job) -> None:
    host = installed.host
    main_job.uninstall_keeps_data(installed)
    (dump,) = host.listdir("/opt/nqrust-microvm/backups")
    assert re.fullmatch(r"nexus-before-.*\.dump", dump), "the second install found tables"
    main_job.purge_later_leaves_nothing(installed)
    again = host.run([f"{product.CLONE}/scripts/install/uninstall.sh", "--non-interactive"], timeout=300)
    assert again.code == 0 and "not installed" in (again.stdout + again.stderr)

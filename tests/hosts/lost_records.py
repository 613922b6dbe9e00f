"""An administrator damages the platform's database. The tests check that no VM is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.hosts import product
from tests.hosts.machine import Machine
from tests.hosts.product import document, eventually, nqr

_DUMP = "/var/tmp/nexus.dump"
_DROP_IN = "/run/systemd/system/nqrust-manager.service.d/observe.conf"
LONGER_THAN_ANY_GRACE = 75.0  # seconds: the reconciler once stopped what it did not know after 60


def sql(host: Machine, statement: str) -> None:
    host.run(["runuser", "-u", "postgres", "--", "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", "nexus", "-c", statement])


def save(host: Machine) -> None:
    host.run(f"runuser -u postgres -- pg_dump -Fc nexus > {_DUMP}")


def restore(host: Machine) -> None:
    """As after a lost disk: the manager stands still meanwhile."""
    host.run(["systemctl", "stop", "nqrust-manager"])
    host.run(
        "PGPASSWORD=$(cat /etc/nqrust-microvm/database-password) "
        f"pg_restore --clean --if-exists --no-owner -h 127.0.0.1 -U nexus -d nexus < {_DUMP}"
    )
    host.run(["systemctl", "start", "nqrust-manager"])
    host.run(["rm", _DUMP])


def unknown(host: Machine, vm_id: str) -> dict[str, Any]:
    """The VM, once the manager reports that it has no record of it."""

    def probe() -> dict[str, Any] | None:
        answer = nqr(host, "vm", "ls", "--unknown", "--output", "json", check=False)
        return next((vm for vm in json.loads(answer.stdout)["items"] if vm["id"] == vm_id), None) if answer.ok else None

    found: dict[str, Any] = eventually(f"{vm_id} is reported as unknown", probe, 60)
    return found


def outlasts_every_grace(host: Machine, vm_id: str) -> None:
    """The very same processes, longer than any grace."""
    before = product.vm_processes(host, vm_id)
    assert before
    time.sleep(LONGER_THAN_ANY_GRACE)
    assert product.vm_processes(host, vm_id) == before


def told(host: Machine, vm_id: str) -> int:
    """How often an event named the VM as unknown."""
    token = host.read("/etc/nqrust-microvm/cli-token").strip()
    _, body = product.fetch(host, "http://127.0.0.1:18080/v1/events?limit=1000", token=token)
    return sum(event["reason"] == "UnknownVm" and vm_id in event["message"] for event in json.loads(body)["items"])


def only_observing(host: Machine, off: bool) -> None:
    """Turn the manager's reconciler off, or on again."""
    if off:
        host.write("/run/observe.env", "MANAGER_RECONCILER_DISABLED=true\n")
        host.run(["mkdir", "-p", _DROP_IN.rpartition("/")[0]])
        host.write(_DROP_IN, "[Service]\nEnvironmentFile=/run/observe.env\n")
    else:
        host.run(["rm", "-r", _DROP_IN.rpartition("/")[0], "/run/observe.env"])
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "restart", "nqrust-manager"])
    eventually("the manager serves", lambda: nqr(host, "vm", "ls", check=False).ok, 60)


def kill(host: Machine, vm_id: str) -> None:
    host.run(f"kill -9 {' '.join(map(str, product.vm_processes(host, vm_id)))}")  # the shell's own: a minimal host has no other
    eventually("its VMM is gone", lambda: not product.vm_processes(host, vm_id), 20)


def state(host: Machine, name: str) -> str:
    return str(document(host, "vm", "show", name)["state"])


def emptied_and_restored(host: Machine, vm: dict[str, Any], same: Callable[[], object]) -> None:
    """The table of VMs is emptied by hand, then restored from a dump of before a second VM was made. `vm` runs, and `same`
    tells that it is on record as it was, and never booted again."""
    save(host)
    second = product.create_vm(host, "late1")
    seconds = product.vm_processes(host, second["id"])
    sql(host, "DELETE FROM vms")
    found = unknown(host, vm["id"])
    assert (found["name"], found["state"], found["ip"]) == (vm["name"], "running", vm["ip"])
    outlasts_every_grace(host, vm["id"])
    assert told(host, vm["id"]) == 1, "it is reported once"
    assert vm["id"] in nqr(host, "host", "show", host.run(["hostname"]).stdout.strip()).stdout
    nqr(host, "vm", "adopt", vm["id"])
    eventually("the adopted VM is as it was", same, 60)

    restore(host)
    assert unknown(host, second["id"])["name"] == "late1"
    eventually("the restored record is true", same, 60)
    taken = nqr(host, "vm", "adopt", second["id"], "--name", vm["name"], check=False)
    assert taken.code != 0 and "NQR-API-137" in taken.stderr, taken.describe()
    assert document(host, "vm", "adopt", "late1", "--name", "late2")["boot_id"] == second["boot_id"]
    assert product.vm_processes(host, second["id"]) == seconds
    said = nqr(host, "vm", "console", "late2", input=b"\n", timeout=60).stdout
    assert "late1 login:" in said, "the guest learns its new name when it boots"
    nqr(host, "vm", "stop", "late2")
    nqr(host, "vm", "start", "late2")
    eventually("it has booted again", lambda: _booted(host, "late2", second["boot_id"]), 180)
    product.console_prompt(host, "late2")
    nqr(host, "vm", "rm", "--force", "late2")
    assert _gone(host, second["id"])

    third = product.create_vm(host, "late3")
    sql(host, "DELETE FROM vms WHERE name = 'late3'")
    unknown(host, third["id"])
    nqr(host, "vm", "rm", "--unknown", third["id"])
    assert _gone(host, third["id"])
    assert same()


def killed_unnoticed(host: Machine) -> None:
    """`nqr vm start --wait` of a VM that is on record as running, and is dead."""
    vm = product.create_vm(host, "dead1")
    only_observing(host, True)
    try:
        kill(host, vm["id"])
        nqr(host, "vm", "start", "dead1", "--wait")
        assert product.vm_processes(host, vm["id"]), "success means that it runs"
        kill(host, vm["id"])
        eventually("it is on record that it died", lambda: state(host, "dead1") == "stopped", 60)
        assert not product.vm_processes(host, vm["id"]), "nothing starts it by itself"
    finally:
        only_observing(host, False)
    guest_reboots(host)
    nqr(host, "vm", "rm", "--force", "dead1")


def guest_reboots(host: Machine) -> None:
    """`reboot` in a guest boots it again, and `poweroff` leaves it off."""
    nqr(host, "vm", "start", "dead1", "--wait")
    last_words(host, "reboot")
    eventually("nqr sees that", lambda: "The guest of VM dead1 rebooted." in nqr(host, "event", "ls").stdout)
    eventually("it boots again", lambda: state(host, "dead1") == "running")
    last_words(host, "poweroff")
    eventually("it is off", lambda: state(host, "dead1") == "stopped", 60)
    time.sleep(20)
    assert state(host, "dead1") == "stopped" and not product.vm_processes(host, document(host, "vm", "show", "dead1")["id"])


def last_words(host: Machine, line: str) -> None:
    """Log in and type what ends the VM, and the console with it."""

    eventually("it lets root in", lambda: "root@dead1" in product.typed(host, "dead1", "root", check=False))
    product.typed(host, "dead1", line, check=False)


def _gone(host: Machine, vm_id: str) -> bool:
    return not host.exists(f"/srv/fc/vms/{vm_id}") and product.vm_processes(host, vm_id) == {}


def _booted(host: Machine, name: str, before: str) -> bool:
    shown = document(host, "vm", "show", name)
    return bool(shown["guest_up_at"]) and shown["boot_id"] not in (None, before)

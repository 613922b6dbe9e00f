"""What a host can tell a manager that lost its record of a VM, and what it keeps such a manager from doing."""

from __future__ import annotations

import pytest

from nqrust.agent.errors import Conflict, NotFound
from nqrust.agent.vms.documents import document
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.vms import StopRequest

from .conftest import VM, Bench

USER = {"name": "root", "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@laptop"], "password_hash": None}
ASKED = {
    "volumes": [{"device": "vdb", "size_mib": 16, "keep": True}],
    "tags": ["blue"],
    "autostart": False,
    "restart_policy": "always",
    "rate_limits": {"disk_iops": 100},
    "ssh_keys": USER["ssh_keys"],
}


def test_everything_that_was_asked_for_is_told_but_the_guests_token(bench: Bench) -> None:
    asked = bench.spec(**ASKED)
    bench.service.put(asked)
    found = document(bench.service, Snapshots(bench.service), VM)
    passing = {"guest_token", "attached", "detached", "run"}
    assert found.spec.model_dump(exclude=passing) == asked.model_dump(exclude=passing)
    assert (found.spec.guest_token, found.spec.run, found.snapshots) == ("", True, [])
    assert (found.status.state, found.status.tags) == ("running", ["blue"])


def test_a_stopped_vm_and_its_snapshots_are_told(bench: Bench) -> None:
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(run=False))
    made = snapshots.create(VM, "before")
    (bench.vm_dir() / "snapshots" / "broken").mkdir()
    found = document(bench.service, snapshots, VM)
    assert (found.spec.run, found.status.state, found.snapshots) == (False, "stopped", [made])


def test_a_record_that_cannot_be_read_is_said(bench: Bench) -> None:
    bench.service.put(bench.spec())
    (bench.vm_dir() / "vm.json").write_text("{")
    with pytest.raises(NotFound) as error:
        document(bench.service, Snapshots(bench.service), VM)
    assert error.value.code == "NQR-API-711"


def test_another_vms_address_is_refused(bench: Bench) -> None:
    bench.service.put(bench.spec())
    with pytest.raises(Conflict) as error:
        bench.service.put(bench.spec("b2", name="web2"))
    assert error.value.code == "NQR-NET-709" and VM in str(error.value)
    assert not bench.service.store.directory("b2") or bench.service.store.read("b2") is None, "nothing of it was made"


def test_an_adopted_vms_guest_gets_its_new_token_at_the_next_start(bench: Bench) -> None:
    """The manager that adopts it makes a token of its own; the running guest's goes on working."""
    service = bench.service
    service.put(bench.spec())
    service.put(bench.spec(guest_token="token-2", generation=2))
    assert service.guests.admits(VM, "token-1") and not service.guests.admits(VM, "token-2")
    service.stop(VM, StopRequest(force=True))
    service.put(bench.spec(guest_token="token-2", generation=3))
    assert service.guests.admits(VM, "token-2") and not service.guests.admits(VM, "token-1")


def test_a_restored_disk_brings_its_token_back(bench: Bench) -> None:
    service, snapshots = bench.service, Snapshots(bench.service)
    service.put(bench.spec(run=False))
    snapshots.create(VM, "before")
    service.put(bench.spec(guest_token="token-2", generation=2, run=False))
    assert service.guests.admits(VM, "token-2")
    snapshots.restore(VM, "before")
    assert service.guests.admits(VM, "token-1") and not service.guests.admits(VM, "token-2")

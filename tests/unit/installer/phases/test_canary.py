"""A run removes canaries of a killed nqr. It leaves those of a running one, and users' VMs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.client.call import Call
from nqrust.contract.names import CANARY_PREFIX, CANARY_TAG, canary_owner
from nqrust.contract.vms import NAME_PATTERN, VmCreate, VmState
from nqrust.host.children import Child, lives, this_process
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.operations import proving
from nqrust.installer.proofs import canary
from nqrust.installer.proofs.through_agent import AgentsCanary
from nqrust.installer.proofs.through_manager import ManagersCanary
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings


def of_a_dead_process() -> str:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return f"{CANARY_PREFIX}{ended.pid}-7"


@dataclass
class Manager:
    """The manager, as far as the canary uses it."""

    vms: list[SimpleNamespace]
    keeps: bool = False
    deleted: list[str] = field(default_factory=list)

    def send(self, call: Call[Any]) -> Any:
        match call.method, call.path:
            case "GET", "/v1/vms":
                return SimpleNamespace(items=list(self.vms))
            case "POST", "/v1/vms":
                assert isinstance(call.body, VmCreate)
                self.vms.append(vm(call.body.name, call.body.host, tuple(call.body.tags)))
                return self.vms[-1]
        assert call.method == "DELETE" and call.query == {"force": "true"}
        id = unquote(call.path.removeprefix("/v1/vms/"))
        self.deleted.append(id)
        if not self.keeps:
            self.vms = [vm for vm in self.vms if vm.id != id]
        return None


def vm(name: str, host: str | None = "here", tags: tuple[str, ...] = (CANARY_TAG,)) -> SimpleNamespace:
    return SimpleNamespace(id=f"id of {name}", name=name, host=host, tags=list(tags))


def bird(manager: Any) -> ManagersCanary:
    return ManagersCanary(FakeHost.debian12(), manager, "here")


def test_canary_name_tells_its_installer_run() -> None:
    assert re.fullmatch(NAME_PATTERN, canary.name_of_mine()) and not canary.forsaken(canary.name_of_mine(), [CANARY_TAG])
    assert this_process().pid == os.getpid() and lives(this_process())
    assert canary.forsaken(f"{CANARY_PREFIX}{os.getpid()}-7", [CANARY_TAG]), "another process had that number"
    assert not lives(Child(os.getpid(), 7))


@pytest.mark.parametrize("name", ["web1", "nqr-canary-af3ff6", "nqr-canary-", "my-nqr-canary-1-2", "nqr-canary-1-2-3"])
def test_installer_keeps_canaries_without_an_owner_mark(name: str) -> None:
    assert not canary.forsaken(name, [CANARY_TAG])


def test_installer_removes_only_canaries_of_dead_runs_on_this_host() -> None:
    dead = of_a_dead_process()
    manager = Manager([vm(dead), vm("web1"), vm(canary.name_of_mine()), vm(f"{dead}0", "there"), vm(f"{dead}1", None)])
    assert bird(manager).clear() == ""
    assert manager.deleted == [f"id of {dead}", f"id of {dead}1"]
    assert list(canary.cleared(FakeHost.debian12(), bird(manager))) == []


@pytest.mark.parametrize(
    ("state", "error", "ended"),
    [("stopped", "The disk is full.", True), ("failed", "No KVM.", True), ("starting", "It is tried again.", False)],
)
def test_a_canary_whose_start_waits_has_failed(state: str, error: str, ended: bool) -> None:
    found = SimpleNamespace(state=VmState(state), error=error, host_id="1", host="here", tap="", guest=None)
    client = SimpleNamespace(send=lambda call: found if call.path.startswith("/v1/vms/") else SimpleNamespace(items=[]))
    seen = replace(bird(client), id="1").look()
    assert (seen.state == "failed", seen.error) == (ended, error)


def test_canary_carries_its_owner_mark() -> None:
    manager = Manager([])
    bird(manager).start()
    (made,) = manager.vms
    assert canary_owner(made.name, made.tags) == (this_process().pid, this_process().since)


def test_installer_keeps_a_user_vm_with_a_canary_name() -> None:
    manager = Manager([vm(of_a_dead_process(), tags=()), vm(of_a_dead_process(), tags=("web",))])
    assert bird(manager).clear() == ""
    assert manager.deleted == []


def test_installer_reports_a_canary_that_it_cannot_remove() -> None:
    manager = Manager([vm(of_a_dead_process())], keeps=True)
    proofs = list(canary.cleared(FakeHost.debian12(), bird(manager)))
    assert [(proof.hop, proof.verdict, proof.code) for proof in proofs] == [("cleanup", "failed", "NQR-VER-011")]


@pytest.mark.parametrize(
    ("cordoned", "way"),
    [(["here"], AgentsCanary), (["there"], ManagersCanary), ([], ManagersCanary)],
    ids=["here", "elsewhere", "none"],
)
def test_canary_on_a_cordoned_host_goes_past_the_manager(
    monkeypatch: pytest.MonkeyPatch, cordoned: list[str], way: type[ManagersCanary] | type[AgentsCanary]
) -> None:
    hosts = [SimpleNamespace(name=name, cordoned=name in cordoned) for name in ("here", "there")]
    client = SimpleNamespace(send=lambda call: SimpleNamespace(items=hosts))
    monkeypatch.setattr("nqrust.client.manager.ManagerClient", lambda *_, **__: nullcontext(client))
    context = Context(
        settings=Settings.model_validate({"agent": {"name": "here"}}),
        facts=fit(),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
    )
    with proving._bird(context, FakeHost.debian12()) as found:
        assert isinstance(found, way)
        assert not isinstance(found, AgentsCanary) or found.note == "past the manager, because this host is cordoned"

"""A host that somebody took over: its addresses, numbers, texts and times affect no other host."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DataError, InterfaceError, OperationalError

from nqrust.client.agent import AgentClient, AgentUnreachable
from nqrust.contract.agent import Inventory, VmStatus
from nqrust.contract.hosts import HostCapacity, HostNetwork, HostState
from nqrust.contract.text import LONGEST_NAME, LONGEST_SHOWN
from nqrust.contract.vms import SnapshotFound
from nqrust.contract.volumes import KeptVolume
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Invalid
from nqrust.manager.hosts.agents import RemoteAgents
from nqrust.manager.hosts.joining import _check_url
from nqrust.manager.store.database import is_away
from nqrust.manager.work import diff
from nqrust.manager.work.reconciler import Reconciler

NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
VM = {"id": "11111111-1111-4111-8111-111111111111", "state": "running", "scope": "fc-1"}
REPORT = {"host_id": "h2", "boot_id": "b", "time": "2026-01-01T00:00:00Z", "vms": [], "taps": [], "volumes": []}

BAD = (
    "127.evil.example:0",
    "a..b:80",
    f"{'x' * 70}.com:80",
    f"{'x.' * 130}com:80",
    "xn--a:80",
    "ex\u0430mple:80",
    "a\x00b:80",
    "a\n:80",
    "1.2.3.4:80/x?",
    "1.2.3.4:80?x",
    "1.2.3.4:80#x",
    "exa mple:80",
    "a:99999",
    "a:0",
    "a",
    "user@a:80",
    "[fe80::1%25eth0]:80",
    "[fe80::1%eth0]:80",
    "[a]:80",
    "[1.2.3.4]:80",
    "-a:80",
    "127.1:80",
    "2130706433:80",
    "0x7f.0x1:80",
    "0:80",
)
LOOPBACK = ("http://localhost:1", "http://LOCALHOST:1", "http://127.9.9.9:1", "http://[::1]:1", "http://[::ffff:127.0.0.1]:1")
UNSPECIFIED = ("http://0.0.0.0:1", "http://[::]:1", "http://[::ffff:0.0.0.0]:1")


@pytest.mark.parametrize("url", [f"http://{one}" for one in BAD] + ["ftp://a:80"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        _check_url(url, True)


@pytest.mark.parametrize("url", LOOPBACK + UNSPECIFIED)
def test_an_address_of_the_managers_machine_is_for_its_own_agent(url: str) -> None:
    _check_url(url, True)
    with pytest.raises(Invalid) as refused:
        _check_url(url, False)
    assert refused.value.code == "NQR-API-115"


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.7:19090",
        "https://kvm-1.example.com:19090",
        "https://[2001:db8::7]:19090/",
        "http://kvm_1:1",
        "http://1host:1",
    ],
)
def test_addresses_of_hosts_are_accepted(url: str) -> None:
    _check_url(url, False)


@pytest.mark.parametrize(
    "url", ["http://127.evil.example:9", "http://xn--a:80", "http://a\x00b:80", "http://[::1", "http://a:99999"]
)
async def test_a_bad_address_in_the_database_is_an_agent_that_does_not_answer(url: str) -> None:
    with pytest.raises(AgentUnreachable):
        async with AgentClient(url, "token") as client:
            await asyncio.wait_for(client.inventory(), 10)


class Answers:
    async def inventory(self) -> Inventory:
        return Inventory.model_validate(REPORT | {"host_id": "h1"})


class Breaks:
    async def inventory(self) -> Inventory:
        raise RuntimeError("nobody thought of that")


async def test_one_host_that_cannot_be_asked_stops_no_other() -> None:
    remote, named = RemoteAgents(), {"h1": Answers(), "h2": Breaks()}

    def agent_of(host: Any) -> object:
        return named.get(host.id) or remote.at(host.url, "token")

    core = SimpleNamespace(agent_of=agent_of, settings=SimpleNamespace(reconcile_seconds=5))
    hosts = [SimpleNamespace(id=f"h{n}", name=f"h{n}", url="http://a\x00b:1", boot_id="b") for n in (1, 2, 3)]

    found = await Reconciler(cast(Core, core))._inventories(cast(Any, hosts))

    assert list(found) == ["h1"]
    await remote.close()


async def test_a_host_that_moves_all_the_time_has_one_client() -> None:
    agents = RemoteAgents()
    first = agents.at("http://192.0.2.1:1", "token", host_id="h1")
    assert agents.at("http://192.0.2.1:1", "token", host_id="h1") is first
    for port in range(2, 40):
        agents.at(f"http://192.0.2.1:{port}", "token", host_id="h1")
    assert len(agents._known) == 1
    await agents.close()


class Held(httpx.AsyncBaseTransport):
    """Answers when `release` is set. `closed` counts."""

    def __init__(self) -> None:
        self.release, self.closed = asyncio.Event(), 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self.release.wait()
        return httpx.Response(200, json=REPORT)

    async def aclose(self) -> None:
        self.closed += 1


async def test_a_former_client_ends_after_its_requests() -> None:
    held = Held()
    async with AgentClient("http://192.0.2.1:1", "token", transport=held) as client:
        running = asyncio.create_task(client.inventory())
        await asyncio.sleep(0)
        await client.retire()
        assert held.closed == 0
        held.release.set()
        assert (await running).host_id == "h2" and held.closed == 1
        assert (await client.inventory()).host_id == "h2" and held.closed == 2


@pytest.mark.parametrize(
    ("model", "good", "bad"),
    [
        (Inventory, REPORT, {"time": "2026-01-01T00:00:00"}),
        (Inventory, REPORT, {"time": "9999-12-31T23:59:59-12:00"}),
        (Inventory, REPORT, {"boot_id": "a\x00"}),
        (Inventory, REPORT, {"boot_id": "b" * 256}),
        (VmStatus, VM, {"started_at": "2026-01-01T00:00:00"}),
        (VmStatus, VM, {"started_at": "9999-12-31T23:59:59-12:00"}),
        (VmStatus, VM, {"state": "\x00"}),
        (VmStatus, VM, {"state": "deleted"}),
        (VmStatus, VM, {"ip": "10.0.0.1\x00"}),
        (VmStatus, VM, {"ip": "x" * 9000}),
        (VmStatus, VM, {"generation": 2**31}),
        (VmStatus, VM, {"generation": -1}),
        (VmStatus, VM, {"id": "x" * 256}),
        (VmStatus, VM, {"memory_mib": 10**400}),
        (VmStatus, VM, {"pids": [1] * 10_001}),
        (VmStatus, VM, {"limits": {"tasks": 2**63}}),
        (VmStatus, VM, {"tags": ["x"] * 65}),
        (VmStatus, VM, {"forwards": [{"host_port": 1, "guest_port": 1}] * 129}),
        (HostCapacity, {"cpus": 1, "memory_mib": 1}, {"cpus": 10**400}),
        (HostCapacity, {"cpus": 1, "memory_mib": 1}, {"memory_mib": 10**15}),
        (HostCapacity, {"cpus": 1, "memory_mib": 1}, {"disk_available_mib": -1}),
        (HostNetwork, {"bridge": "fcbr0"}, {"dhcp_first": "x" * 9000}),
        (HostNetwork, {"bridge": "fcbr0"}, {"bridge": "a\x00"}),
        (KeptVolume, {"name": "a", "size_mib": 1}, {"name": "x" * 9000}),
        (KeptVolume, {"name": "a", "size_mib": 1}, {"name": "a\x00b"}),
        (KeptVolume, {"name": "a", "size_mib": 1}, {"size_mib": 2**31}),
        (SnapshotFound, {"name": "a", "created_at": "2026-01-01T00:00:00Z"}, {"name": "x" * 9000}),
        (SnapshotFound, {"name": "a", "created_at": "2026-01-01T00:00:00Z"}, {"size": 2**63}),
        (SnapshotFound, {"name": "a", "created_at": "2026-01-01T00:00:00Z"}, {"created_at": "2026-01-01T00:00:00"}),
    ],
)
def test_reports_out_of_bounds_are_refused(model: type[BaseModel], good: dict[str, Any], bad: dict[str, Any]) -> None:
    model.model_validate_json(json.dumps(good))
    with pytest.raises(ValidationError):
        model.model_validate_json(json.dumps(good | bad))


def test_honest_vm_with_all_its_tags_and_forwards_is_read() -> None:
    forwards = [{"host_port": 1024 + number, "guest_port": 1} for number in range(64)]
    found = VmStatus.model_validate(VM | {"tags": ["t" * 255] * 32, "forwards": forwards})
    assert (len(found.tags), len(found.forwards)) == (32, 64)


def test_absurd_capacity_on_record_is_as_not_reported() -> None:
    """An earlier version recorded it, and one such record must not stop all placements."""
    assert HostCapacity.stored({"cpus": 10**400, "memory_mib": 1}) == HostCapacity(cpus=0, memory_mib=0)
    assert HostCapacity.stored({"cpus": 2, "memory_mib": 1}) == HostCapacity(cpus=2, memory_mib=1)


def test_texts_for_people_are_cut_and_make_no_report_unreadable() -> None:
    names, texts = ("name", "image", "vmm", "accel", "scope"), ("exit_reason", "network_written")
    found = VmStatus.model_validate(VM | dict.fromkeys(names + texts, "x\x00" * 9000) | {"tags": ["y" * 9000]})
    for text in (getattr(found, name) for name in texts):
        assert len(text) == LONGEST_SHOWN and "\x00" not in text
    for text in (*(getattr(found, name) for name in names), *found.tags):
        assert len(text) == LONGEST_NAME and "\x00" not in text


def test_a_report_that_cannot_be_compared_stops_no_other_host() -> None:
    naive = VmStatus.model_construct(
        id="x", name="nqr-canary-17-4711", tags=["nqr-canary"], state="running", started_at=datetime(2026, 1, 1), generation=0
    )
    bad = Inventory.model_construct(host_id="h1", boot_id="b", time=NOW, vms=[naive], taps=[], volumes=[])
    good = Inventory.model_validate(REPORT)
    rows = [diff.VmRow("v2", "web2", "h2", diff.DesiredState.running, diff.VmState.running, started_at=NOW - timedelta(hours=1))]
    hosts = [diff.HostRow(one, one, "b", HostState.online, HostState.online) for one in ("h1", "h2")]

    found = diff.diff(rows, hosts, {"h1": bad, "h2": good}, NOW, {})

    assert [type(action) for action in found] == [diff.Unusable, diff.Restart]
    assert diff.only_seen(found[0]) is found[0]


class _Orig(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (OperationalError("", None, _Orig(None)), True),
        (OperationalError("", None, _Orig("08006")), True),
        (OperationalError("", None, _Orig("57P01")), True),
        (OperationalError("", None, _Orig("53300")), True),
        (InterfaceError("", None, _Orig(None)), True),
        (DataError("", None, _Orig("22003"), connection_invalidated=True), True),
        (OperationalError("", None, _Orig("54000")), False),
        (OperationalError("", None, _Orig("57014")), False),
        (DataError("", None, _Orig(None)), False),
    ],
)
def test_a_value_that_the_database_refuses_is_no_database_that_is_away(error: Exception, away: bool) -> None:
    assert is_away(error) is away

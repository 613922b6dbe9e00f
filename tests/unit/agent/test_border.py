"""An agent accepts nothing from a wrong or hostile manager that becomes another line, field or option."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.host import FakeHost

from nqrust.agent.api import app as agent_api
from nqrust.agent.errors import Refused
from nqrust.agent.network import addresses
from nqrust.agent.network.dhcp import Dhcp
from nqrust.agent.network.forwards import Forward, restore_text, rules
from nqrust.agent.network.taps import Taps
from nqrust.agent.settings import Network
from nqrust.agent.store import VmRecord
from nqrust.contract import names
from nqrust.contract.agent import VmSpec
from nqrust.contract.credentials import hash_token
from nqrust.contract.text import joined, word
from nqrust.contract.vms import VmCreate
from nqrust.host.port import Command

VM = "0b8f0c3e-5f0e-4a53-9f4e-6a1d2a8f7c11"
TOKEN = "t" * 43
_BLOB = {"file": "kernel", "size": 1, "sha256": "0" * 64}
WHOLE: dict[str, Any] = {
    "id": VM,
    "name": "web1",
    "vcpus": 1,
    "memory_mib": 128,
    "disk_mib": 16,
    "guest_token": "token",
    "image": {
        "name": "tiny", "rootfs": {**_BLOB, "file": "rootfs.ext4"}, "kernel": _BLOB, "kernel_elf": _BLOB, "initrd": _BLOB,
        "cmdline": "quiet", "root_device": "/dev/vda", "rootfs_type": "ext4",
    },
    "mac": names.mac_address(VM),
    "tap": names.tap_name(VM),
    "ip": "10.0.0.20",
    "tags": ["blue"],
    "restart_policy": "always",
    "network_config": "dhcp",
    "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI user@host"],
    "users": [{"name": "ann", "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI ann@host"], "password_hash": "$6$salt$12345678"}],
    "forwards": [{"protocol": "tcp", "host_port": 8080, "guest_port": 80}],
    "volumes": [{"size_mib": 16, "device": "vdb", "name": "data", "kept_as": "kept"}],
    "attached": ["vdb"],
    "detached": [{"size_mib": 16, "device": "vdc", "name": "old", "change": "detaching", "data": "keep"}],
}  # fmt: skip
BREAKS = ("\n", "\r", "\x00", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\u200b", "\ufeff", "\ud800", "\t")
SPLITS = (" ", "\u00a0", ",", "-", "--", "'", '"', "`", "$(", ";", "|", "/../", "\\", "%", "\u0430")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each string in a document."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))


def changed(path: tuple[Any, ...], text: str) -> dict[str, Any]:
    document = copy.deepcopy(WHOLE)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = text
    return document


def at(path: tuple[Any, ...]) -> str:
    place: Any = WHOLE
    for key in path:
        place = place[key]
    return str(place)


PATHS = sorted(leaves(WHOLE), key=str)


class Accepting:
    """A service that accepts everything that passes the API and the checks before a change."""

    def __init__(self) -> None:
        self.taken: list[VmSpec] = []

    def __getattr__(self, name: str) -> None:
        """Parts of a service that the tests never call."""

    def put(self, spec: VmSpec) -> Any:
        addresses.check(spec, Network())
        self.taken.append(spec)
        return {"id": spec.id, "state": "running", "scope": names.scope_name(spec.id)}


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[TestClient, Accepting]]:
    service = Accepting()
    app = agent_api.build(
        service,  # type: ignore[arg-type]
        agent_api.Verbs(2),
        host_id=lambda: None,
        command_hashes=lambda: (hash_token(TOKEN),),
        local_hash=hash_token(TOKEN),
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, service


def asked(api: tuple[TestClient, Accepting], document: dict[str, Any]) -> tuple[int, str, list[VmSpec]]:
    """Return the status, the code, and the service's input."""
    client, service = api
    service.taken.clear()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    answer = client.put(f"/agent/v1/vms/{VM}", content=json.dumps(document).encode(), headers=headers)
    return answer.status_code, answer.json().get("code", ""), list(service.taken)


def lines_of(spec: VmSpec) -> list[list[str]]:
    """Return, as lists of lines, each batch and file that the agent makes from a VM for programs of root."""
    told: list[list[str]] = []
    host = FakeHost.debian12()
    for path in ("/sys", "/sys/class", "/sys/class/net", "/sys/class/net/fcbr0", "/sys/class/net/fcbr0/bridge", "/var/lib/dhcp"):
        if host.stat(path) is None:
            host.put_directory(path)

    def hear(host: FakeHost, cmd: Command) -> None:
        text = cmd.input.decode() if isinstance(cmd.input, bytes) else ""
        told.append([" ".join(cmd.argv), *text.splitlines()])
        own = cmd.argv[cmd.argv.index("--") + 1 :] if cmd.argv[0] == "nsenter" else cmd.argv
        assert not any(argument.startswith("-") for argument in own[3:]), cmd.argv

    for program in ("ip", "bridge", "tc", "nsenter"):
        host.install(program)
        host.on(program, prefix=True, answer=hear)
    Taps(host, "fcbr0", isolated=True).take(spec.tap, spec.id, 77)
    Dhcp(host, bridge="fcbr0", server="10.0.0.1", hosts_dir="/var/lib/dhcp/hosts.d", leases="/var/lib/dhcp/leases").reserve(
        spec.id, spec.mac, spec.ip or "", spec.name
    )
    told.append(host.read_text(f"/var/lib/dhcp/hosts.d/{spec.id}").splitlines())
    assert told[-1][0].count(",") == 2
    for table, chain in (("nat", "NQR-PREROUTING"), ("nat", "NQR-OUTPUT"), ("filter", "NQR-FWD")):
        found = rules("fcbr0", [Forward(spec.id, spec.ip or "", port) for port in spec.forwards])
        told.append(restore_text(table, {chain: found[chain]}).splitlines())
    return told


def test_a_plain_vm_is_taken(api: tuple[TestClient, Accepting]) -> None:
    status, _, taken = asked(api, WHOLE)
    assert status == 200 and len(taken) == 1


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_no_string_hides_a_line_break(api: tuple[TestClient, Accepting], path: tuple[Any, ...]) -> None:
    for mark in BREAKS:
        for text in (at(path) + mark, mark + at(path), f"{at(path)}{mark}link delete dev lo"):
            status, code, taken = asked(api, changed(path, text))
            assert 400 <= status < 500 and code.startswith("NQR-") and not taken, (path, text, status)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_what_is_taken_makes_no_line_field_or_option_more(api: tuple[TestClient, Accepting], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(PATHS))
    mark = data.draw(st.one_of(st.sampled_from(SPLITS + BREAKS), st.text(max_size=3)))
    text = data.draw(st.sampled_from((at(path) + mark, mark + at(path), mark, f"{mark}link{mark}delete")))
    status, code, taken = asked(api, changed(path, text))
    if taken:
        plain = lines_of(VmSpec.model_validate(WHOLE))
        found = lines_of(taken[0])
        assert [len(lines) for lines in found] == [len(lines) for lines in plain]
        assert [[len(line.split(" ")) for line in lines] for lines in found] == [
            [len(line.split(" ")) for line in lines] for lines in plain
        ]
    else:
        assert 400 <= status < 500 and code.startswith("NQR-"), (path, text, status)


@given(number=st.integers(0, 2**32 - 1))
def test_only_addresses_of_guests_are_taken(number: int) -> None:
    ip = str(IPv4Address(number))
    spec = VmSpec.model_validate({**WHOLE, "ip": ip})
    if ip.startswith("10.0.0.") and ip not in ("10.0.0.0", "10.0.0.1", "10.0.0.255"):
        addresses.check(spec, Network())
    else:
        with pytest.raises(Refused, match="NQR-NET-711"):
            addresses.check(spec, Network())


@pytest.mark.parametrize("other", ["02:00:00:00:00:01", names.mac_address("another")])
def test_a_mac_of_another_vm_is_refused(other: str) -> None:
    with pytest.raises(Refused, match="NQR-NET-711"):
        addresses.check(VmSpec.model_validate({**WHOLE, "mac": other}), Network())


@pytest.mark.parametrize("number", ["generation", "vcpus", "memory_mib", "disk_mib"])
def test_numbers_have_bounds(api: tuple[TestClient, Accepting], number: str) -> None:
    for value in (-1, 0, 2**63, 10**30):
        status, code, taken = asked(api, {**WHOLE, number: value})
        assert status == 422 and code == "NQR-API-703" and not taken


@pytest.mark.parametrize("text", ["", "-f", " a", "a b", "a,b", "a'b", "a\nb", "a\u2028b", "\u0430", "$(a)"])
def test_a_word_is_one_word(text: str) -> None:
    with pytest.raises(ValueError):
        word(text)
    assert word("06:4e:00:00:00:01") and word("10.0.0.20/24")


@pytest.mark.parametrize("words", [("a", "b c"), ("a", ""), ("a", "b\n"), ("a", "b#c"), ("a", '"b"'), ("a", "b\\")])
def test_a_line_has_the_words_it_was_made_of(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        joined(*words)
    assert joined("-A", "x", "!", "-i", "fcbr0") == "-A x ! -i fcbr0"


def test_a_record_of_an_earlier_version_stays_readable() -> None:
    kept = {**WHOLE, "tags": ["a\tb"], "created_at": "2026-01-01T00:00:00Z"}
    kept["image"] = {**WHOLE["image"], "cmdline": "quiet\n"}
    assert VmRecord.model_validate(kept).tags == ["a\tb"]


def test_the_manager_refuses_a_tag_with_a_line_break_when_it_is_asked() -> None:
    with pytest.raises(ValueError):
        VmCreate(name="web1", image="tiny", tags=["a\nb"])

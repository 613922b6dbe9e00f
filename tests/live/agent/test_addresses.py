"""What an agent accepts of a manager: nothing that could be a second line of what root's programs read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from nqrust.agent.errors import Refused
from nqrust.agent.network import addresses
from nqrust.agent.network.forwards import restore_text
from nqrust.agent.network.taps import Taps
from nqrust.agent.settings import Network
from nqrust.contract import names
from nqrust.contract.agent import ImageRef, VmSpec
from nqrust.contract.images import Blob
from nqrust.contract.text import one_line

from .conftest import VM, Bench

_BLOB = Blob(file="kernel", size=1, sha256="0" * 64)


def spec(**changes: Any) -> VmSpec:
    values = {
        "id": VM, "name": "web1", "vcpus": 1, "memory_mib": 128, "disk_mib": 16, "guest_token": "token",
        "image": ImageRef(name="tiny", rootfs=_BLOB, kernel=_BLOB),
        "mac": names.mac_address(VM), "tap": names.tap_name(VM), "ip": "10.0.0.20",
    }  # fmt: skip
    return VmSpec.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "../../etc"),
        ("id", f"{VM}\n"),
        ("name", "web1\n06:4e:00:00:00:01,10.0.0.66"),
        ("name", "web1,guest=x"),
        ("mac", "06:4e:00:00:00:01 dev lo\nlink delete dev eth0"),
        ("mac", "06:4e:00:00:00:01,romfile=/etc/shadow"),
        ("mac", "06:4E:00:00:00:01\n"),
        ("mac", "07:4e:00:00:00:01"),
        ("tap", "tap0,script=x"),
        ("tap", "eth0"),
        ("ip", "10.0.0.20 lladdr 06:4e:00:00:00:01\n!sh"),
        ("ip", "10.0.0.20\n"),
        ("ip", "10.0.0.20/24"),
        ("ip", "fe80::1"),
        ("guest_token", "token\nMANAGER_URL=http://elsewhere"),
        ("ssh_keys", ["ssh-ed25519 AAAA\nroot ALL"]),
    ],
)  # fmt: skip
def test_a_field_that_hides_a_second_line_or_option_is_no_vm(field: str, value: Any) -> None:
    assert spec()
    with pytest.raises(ValidationError) as refused:
        spec(**{field: value})
    assert {error["loc"][0] for error in refused.value.errors()} == {field}


@pytest.mark.parametrize("ip", ["10.0.1.20", "10.0.0.1", "10.0.0.0", "10.0.0.255", "127.0.0.1", "169.254.169.254"])
def test_an_address_that_no_guest_of_this_host_has_is_refused(ip: str) -> None:
    with pytest.raises(Refused, match=f"cannot have the address {ip}"):
        addresses.check(spec(ip=ip), Network())


def test_a_tap_of_another_vm_is_refused() -> None:
    with pytest.raises(Refused, match="NQR-NET-711"):
        addresses.check(spec(tap=names.tap_name("another")), Network())


def test_a_bridged_host_gives_no_addresses() -> None:
    bridged = Network("bridged", "br0", "", "", "", "")
    addresses.check(spec(ip=None), bridged)
    with pytest.raises(Refused, match="assigns addresses itself"):
        addresses.check(spec(), bridged)


def test_a_refused_vm_leaves_nothing_on_the_host(bench: Bench) -> None:
    with pytest.raises(Refused):
        bench.service.put(bench.spec(ip="10.0.0.1"))
    assert not bench.vm_dir().exists() and not bench.taps.links and not bench.scopes.alive


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x00b", "a\x1b[2J", "a\u2028b", "a\x85b"])
def test_no_line_holds_another(text: str) -> None:
    with pytest.raises(ValueError, match="no line may have"):
        one_line(text)


def test_batches_for_root_refuse_a_hidden_line(bench: Bench) -> None:
    """The last door, whatever was let through before."""
    with pytest.raises(ValueError):
        Taps(bench.service.host, "fcbr0", isolated=True)._ip(["neigh replace 10.0.0.9 lladdr x\nlink delete dev lo"])
    with pytest.raises(ValueError):
        restore_text("nat", {"NQR-FWD": [("-d", "10.0.0.9\n-A INPUT", "-j", "ACCEPT")]})
    with pytest.raises(ValueError):
        bench.service.dhcp.reserve(VM, "06:4e:00:00:00:01", "10.0.0.9\n10.0.0.1", "web1")

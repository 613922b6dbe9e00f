"""A TAP is a port of the bridge, and nothing more to the host."""

from __future__ import annotations

import errno
from unittest.mock import Mock

import pytest
from tests.unit.agent.test_network import TAP, machine

from nqrust.agent.errors import Failed
from nqrust.agent.network import port_only
from nqrust.agent.network.taps import Taps
from nqrust.host.errors import PathError
from nqrust.host.port import Completed


def test_the_host_refuses_packets_of_a_tap_before_it_goes_up() -> None:
    host, order = machine(), list[str]()
    host.write_file("/sys/class/net/fcbr0/addr_assign_type", b"3\n")
    for path in (f"/proc/sys/net/ipv6/conf/{TAP}/disable_ipv6", f"/proc/sys/net/ipv4/conf/{TAP}/rp_filter"):
        host.put(path, "0\n")
    host.on("ip", prefix=True, answer=lambda h, c: order.append(h.read_text(path)) or Completed(c.argv, 0, "", ""))
    Taps(host, "fcbr0", isolated=True).take(TAP, "a1", 77)
    assert order == ["1\n"]


def test_a_vm_does_not_start_if_the_host_would_take_packets_from_its_tap(monkeypatch: pytest.MonkeyPatch) -> None:
    host = machine()
    monkeypatch.setattr(host, "set_parameter", Mock(side_effect=PathError("/proc/sys/x", "Read-only file system", errno.EROFS)))
    with pytest.raises(Failed) as failed:
        Taps(host, "fcbr0", isolated=True).take(TAP, "a1", 77)
    assert failed.value.code == "NQR-NET-702"


def test_a_kernel_without_ipv6_has_nothing_to_turn_off() -> None:
    host = machine(alias="nqrust-vm:a1")
    host.put(f"/proc/sys/net/ipv4/conf/{TAP}/rp_filter", "0\n")
    port_only.refuse_packets(host, TAP)
    assert host.read_text(f"/proc/sys/net/ipv4/conf/{TAP}/rp_filter") == "1\n"
    assert not host.exists("/proc/sys/net/ipv6")


def test_a_distributions_loose_filter_of_sources_is_left_alone() -> None:
    """systemd sets it for each link that appears. On a link without an address it refuses the same."""
    host = machine(alias="nqrust-vm:a1")
    host.write_file(f"/sys/class/net/{TAP}/flags", b"0x1083\n")
    for value, wrong in (("2", []), ("1", []), ("0", ["the host took packets from it"])):
        host.put(f"/proc/sys/net/ipv4/conf/{TAP}/rp_filter", f"{value}\n")
        assert port_only.strange(host, TAP) == wrong

"""Parsers with output captured on real machines, and with garbage."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import places

from nqrust.host import mounts
from nqrust.host.errors import ParseError
from nqrust.host.facts import (
    container,
    cpu,
    kernel,
    kvm,
    memory,
    network,
    network_procfs,
    os,
    ports,
    postgres,
    proxy,
)
from nqrust.host.facts.model import Route
from nqrust.host.facts.ports import Socket
from nqrust.installer.verbs.packages.apt.database import parse_dpkg_status

TABLES = places.TABLES / "facts"


def table(name: str) -> str:
    return (TABLES / name).read_text()


@pytest.mark.parametrize(("name", "expected"), yaml.safe_load(table("os-release.yaml")).items())
def test_os_release(name: str, expected: list[object]) -> None:
    found = os.parse_os_release(table(f"os-release/{name}"))
    assert [found.id, found.version_id, list(found.id_like)] == expected
    assert found.pretty_name


def test_os_release_quoting_and_absence() -> None:
    assert os.parse_os_release('ID=\'de\\$b\'\nPRETTY_NAME="a \\"b\\""\n').pretty_name == 'a "b"'
    assert os.parse_os_release("").id == "linux"
    assert os.parse_os_release('ID="unclosed\nVERSION_ID=1\n').version_id == "1"


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.1.0-28-amd64", (6, 1)),
        ("4.18.0-553.el8_10.x86_64", (4, 18)),
        ("5.15.0-1030-aws", (5, 15)),
        ("6.18.44-fc-v595", (6, 18)),
        ("6.12-rc3", (6, 12)),
        ("", (0, 0)),
        ("rolling", (0, 0)),
    ],
)
def test_kernel_release(release: str, expected: tuple[int, int]) -> None:
    assert kernel.parse_release(release) == expected


def test_elf_machine() -> None:
    assert kernel.parse_elf_machine(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00") == "x86_64"
    assert kernel.parse_elf_machine(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00") == "aarch64"
    assert kernel.parse_elf_machine(b"#!/bin/sh") == ""


def test_cpuinfo_of_an_amd_guest() -> None:
    found = cpu.parse_cpuinfo(table("cpuinfo-amd-guest"))
    assert found.virtualisation is None
    assert "hypervisor" in found.flags and found.count >= 1
    intel = cpu.parse_cpuinfo("processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx\n\nprocessor\t: 1\n")
    assert (intel.count, intel.virtualisation) == (2, "vmx")


def test_meminfo() -> None:
    found = memory.parse_meminfo(table("meminfo"))
    assert found.total_mib == 24105 and 0 < found.available_mib <= found.total_mib


@pytest.mark.parametrize(
    ("dmi", "flags", "hypervisor", "expected"),
    [
        ({"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"}, {"hypervisor"}, "", "qemu"),
        ({"sys_vendor": "VMware, Inc."}, {"hypervisor"}, "", "vmware"),
        ({"sys_vendor": "Amazon EC2"}, {"hypervisor"}, "", "amazon"),
        ({"sys_vendor": "Amazon EC2"}, set(), "", ""),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, {"hypervisor"}, "", "microsoft"),
        ({"sys_vendor": "Dell Inc.", "product_name": "PowerEdge R640"}, set(), "", ""),
        ({}, {"hypervisor"}, "", "vm-other"),
        ({}, set(), "xen", "xen"),
    ],
)
def test_virtual_host(dmi: dict[str, str], flags: set[str], hypervisor: str, expected: str) -> None:
    assert kvm.parse_virtual_host(dmi, frozenset(flags), hypervisor) == expected


def test_listening_sockets() -> None:
    assert ports.parse_sockets(table("proc-net-tcp"), "tcp") == (Socket("tcp", "10.0.0.1", 18080, 128849),)
    assert ports.parse_sockets(table("proc-net-tcp6"), "tcp") == (Socket("tcp", "::", 3000, 128850),)
    assert ports.parse_sockets(table("proc-net-udp"), "udp") == (Socket("udp", "10.0.0.1", 67, 128851),)


def test_addresses_in_the_kernels_notation() -> None:
    assert ports.parse_address("0100007F") == "127.0.0.1"
    assert ports.parse_address("00000000000000000000000001000000") == "::1"
    assert ports.parse_address("0000000000000000FFFF00000100007F") == "127.0.0.1"


def test_ip_address_and_route() -> None:
    kinds, addresses = network.parse_ip_addr(table("ip-address.json"))
    assert kinds["fcbr0"] == "bridge" and kinds["tap0123456789a"] == "tun" and kinds["ve0"] == "veth"
    assert addresses["fcbr0"][0] == "10.0.0.1/24" and addresses["lo"] == ("127.0.0.1/8", "::1/128")
    assert network.parse_ip_route(table("ip-route.json"))[:2] == (
        Route("default", "ve0", "192.168.50.1", 100),
        Route("10.0.0.0/24", "fcbr0", None, 0, "10.0.0.1", "kernel"),
    )


def test_procfs_tells_the_same_as_iproute2() -> None:
    _, by_ip = network.parse_ip_addr(table("ip-address.json"))
    by_proc = network_procfs.addresses(table("proc-net-fib_trie"), table("proc-net-route"), table("proc-net-if_inet6"))
    assert by_proc == {name: listed for name, listed in by_ip.items() if listed}
    routes = [(one.destination, one.device, one.gateway, one.metric) for one in network.parse_ip_route(table("ip-route.json"))]
    assert routes == [
        (one.destination, one.device, one.gateway, one.metric) for one in network_procfs.parse_routes(table("proc-net-route"))
    ]


def test_multipath_and_gateways_of_the_other_family() -> None:
    found = network.parse_ip_route(
        json.dumps(
            [
                {"dst": "default", "nexthops": [{"gateway": "10.1.0.1", "dev": "eth1"}, {"gateway": "10.2.0.1", "dev": "e2"}]},
                {"dst": "default", "via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth0"},
                {"type": "unreachable", "dst": "10.9.0.0/16"},
            ]
        )
    )
    assert [(one.device, one.gateway) for one in found] == [("eth1", "10.1.0.1"), ("eth0", "fe80::1")]


def test_answers_that_are_not_json_are_refused() -> None:
    for parse in (network.parse_ip_addr, network.parse_ip_route):
        for bad in ("{}", "Usage: ip [OPTIONS]", "[", '"x"'):
            with pytest.raises(ParseError):
                parse(bad)
        parse("[{},{}]")  # what old iproute2 prints for links without such addresses


def test_dpkg_status_counts_only_what_is_installed() -> None:
    status = (
        "Package: a\nStatus: install ok installed\nDescription: x\n Package: no\n\n"
        "Package: b\nStatus: deinstall ok config-files\n\nPackage: c\nStatus: install ok half-configured\n\n"
        "Package: d\nStatus: hold ok installed\n"
    )
    assert parse_dpkg_status(status) == {"a", "d"}


def test_postgresql_conf() -> None:
    found = postgres.parse_conf(
        "port = 5432\t# comment\nport 5433\n#port = 1\nunix_socket_directories = '/a, /b'\nCluster_Name = 'it''s'\nssl=off\n"
    )
    assert found == {"port": "5433", "unix_socket_directories": "/a, /b", "cluster_name": "it's", "ssl": "off"}
    assert postgres.parse_postmaster_pid("4711\n/var/lib/x\n1700000000\n5433\n/run/pg\nlocalhost\n") == (4711, "/run/pg")
    assert postgres.parse_postmaster_pid("") == (0, "")


def test_mounts() -> None:
    found = mounts.parse_mountinfo(table("mountinfo-v2"))
    bind = found[-1]
    assert (bind.mount_point, bind.root, bind.fstype) == ("/srv/with space", "/home/a b", "ext4")
    holder = mounts.holding(found, "/srv/fc/vms")
    assert holder is not None and holder.source == "/dev/sdb1"
    assert [one.mount_point for one in mounts.at_or_below(found, "/srv")] == ["/srv", "/srv/with space"]
    assert mounts.at_or_below(found, "/sr") == []


@pytest.mark.parametrize(
    ("manager", "expected"),
    [
        ("", ""),
        ("docker", "docker"),
        ("systemd-nspawn", "systemd-nspawn"),
        ("lxc", "lxc"),
        ("lxc-libvirt", "lxc"),
        ("podman", "podman"),
        ("oci", "other"),
        ("rkt", "other"),
    ],
)
def test_container(manager: str, expected: str) -> None:
    assert container.classify(manager) == expected


def test_environment_files() -> None:
    found = proxy.parse_environment_file('# c\nhttp_proxy="http://p:3128"\nexport NO_PROXY=localhost\nnonsense\n')
    assert proxy.of(found) == {"http_proxy": "http://p:3128", "no_proxy": "localhost"}


PARSERS: list[Callable[[str], object]] = [
    os.parse_os_release,
    kernel.parse_release,
    cpu.parse_cpuinfo,
    memory.parse_meminfo,
    kvm.parse_parameter,
    network.parse_ip_addr,
    network.parse_ip_route,
    network.parse_resolv_conf,
    network_procfs.parse_routes,
    parse_dpkg_status,
    postgres.parse_conf,
    postgres.parse_postmaster_pid,
    mounts.parse_mountinfo,
    container.parse_environment,
    proxy.parse_environment_file,
    lambda text: ports.parse_sockets(text, "tcp"),
    lambda text: network_procfs.addresses(text, text, text),
]
CAPTURED = [path.read_text() for path in sorted(TABLES.rglob("*")) if path.is_file()]


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Captured output, with one piece replaced."""
    original = draw(st.sampled_from(CAPTURED))
    start = draw(st.integers(0, len(original)))
    end = draw(st.integers(start, min(len(original), start + 50)))
    return original[:start] + draw(st.text(max_size=8)) + original[end:]


@pytest.mark.parametrize("parse", PARSERS)
@settings(max_examples=60)
@given(content=st.one_of(st.text(), damaged()))
def test_garbage_gives_defaults_or_a_parse_error(parse: Callable[[str], object], content: str) -> None:
    try:
        parse(content)
    except ParseError:
        pass


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "ifname",
                        "addr_info",
                        "local",
                        "prefixlen",
                        "linkinfo",
                        "info_kind",
                        "dst",
                        "dev",
                        "via",
                        "nexthops",
                        "gateway",
                        "metric",
                    ]
                ),
                inner,
            )
        ),
    )
)
def test_any_json_gives_defaults_or_a_parse_error(document: object) -> None:
    for parse in (network.parse_ip_addr, network.parse_ip_route):
        try:
            parse(json.dumps(document))
        except ParseError:
            pass

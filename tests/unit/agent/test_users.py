"""What the processes of a VM see of the host's folders."""

from __future__ import annotations

import pytest

from nqrust.agent import users

VM = "/srv/fc/vms/a1"


def hidden(*needed: str) -> list[str]:
    return [mount[-1] for mount in users.own_view(VM, *needed) if mount[:2] == ("-t", "tmpfs")]


def test_the_sockets_of_the_hosts_services_are_hidden() -> None:
    assert hidden("/var/lib/nqrust-agent", "/opt/images") == ["/run", "/tmp"]
    assert all("ro" in mount[3].split(",") for mount in users.own_view(VM)[1:])


@pytest.mark.parametrize(
    ("needed", "left"),
    [
        ("/run/agent", ["/tmp"]),
        ("/tmp", ["/run"]),
        ("/tmp/fc", ["/run"]),
        ("/runner", ["/run", "/tmp"]),
        ("/tmpfs/fc", ["/run", "/tmp"]),
    ],
)
def test_a_folder_that_the_vm_needs_is_not_hidden(needed: str, left: list[str]) -> None:
    assert hidden(needed) == left


def test_a_program_of_the_agent_has_nothing_of_the_host_either() -> None:
    argv = users.alone(1_900_000_000, "/srv/fc/disk")
    assert argv[:4] == ("unshare", "--net", "--ipc", "--mount")
    assert argv[argv.index("-c") + 1].count("mount -t tmpfs") == 2

"""What the processes of a VM see of the host's folders. What that keeps from them: tests/live/agent/test_vmm_taken_over.py"""

from __future__ import annotations

import pytest

from nqrust.agent import users, view

VM = "/srv/fc/vms/a1"


def hidden(*needed: str) -> list[str]:
    return [place for _, place, kind, options in view.hidden(*needed) if kind == "tmpfs" and "ro" in options.split(",")]


def test_the_sockets_of_the_hosts_services_are_hidden() -> None:
    assert hidden("/var/lib/nqrust-agent", "/opt/images") == ["/run", "/tmp", "/var/tmp"]


@pytest.mark.parametrize(
    ("needed", "left"),
    [
        ("/run/agent", ["/tmp", "/var/tmp"]),
        ("/tmp", ["/run", "/var/tmp"]),
        ("/tmp/fc", ["/run", "/var/tmp"]),
        ("/var/tmp/fc", ["/run", "/tmp"]),
        ("/runner", ["/run", "/tmp", "/var/tmp"]),
        ("/tmpfs/fc", ["/run", "/tmp", "/var/tmp"]),
    ],
)
def test_a_folder_that_the_vm_needs_is_not_hidden(needed: str, left: list[str]) -> None:
    assert hidden(needed) == left


def test_a_program_of_the_agent_has_namespaces_of_its_own() -> None:
    argv = users.alone(1_900_000_000, view.only_hidden("/run/disk", ["/dev/shm"]))
    assert argv[:4] == ("unshare", "--net", "--ipc", "--mount")
    script = argv[argv.index("-c") + 1]
    assert "nqr-hidden /tmp && " in script and "nqr-hidden /var/tmp " in script and "nqr-hidden /dev/shm " in script
    assert "nqr-hidden /run" not in script, "its disk is there"


def test_a_path_of_any_form_is_one_field_of_a_table() -> None:
    (line,) = view.table([view.bind("/a b\tc\\d#e", "/f\ng")]).splitlines()
    assert line.split() == ["/a\\040b\\011c\\134d\\043e", "/f\\012g", "none", "bind", "0", "0"]

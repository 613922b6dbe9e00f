"""A process says of itself what it likes, at any length; root reads a part of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.fakes.host import FakeHost

from nqrust.contract.names import VM_USERS
from nqrust.contract.paths import Layout
from nqrust.host.port import Host, User
from nqrust.installer.fingerprint.ours import processes_of_ours
from nqrust.installer.verbs.service.undo import scopes


@pytest.mark.parametrize("look", [lambda host: processes_of_ours(host, Layout()), lambda host: scopes(host, "fc-")])
def test_the_environment_and_the_arguments_of_a_process_are_read_in_part(look: Callable[[Host], object]) -> None:
    host = FakeHost.debian12()
    host.put("/proc/50/comm", "qemu-system-x86")
    host.put("/proc/50/cmdline", "qemu\0" * 100)
    host.put("/proc/50/environ", "A=1\0" * 1_000_000)
    for process in ("self", "50"):
        host.put(f"/proc/{process}/ns/net", "")
        host.symlink("pid:[1]", f"/proc/{process}/ns/pid")
    read, seen = host.read_bytes, dict[str, int | None]()

    def watched(path: str, limit: int | None = None) -> bytes:
        seen[path] = limit
        return read(path, limit)

    host.read_bytes = watched  # type: ignore[method-assign]
    look(host)
    said = {path: limit for path, limit in seen.items() if path.endswith(("/environ", "/cmdline"))}
    assert "/proc/50/environ" in said and set(said.values()) == {1 << 20}


def process_of(user: int, *, environment: str = "") -> FakeHost:
    host = FakeHost.debian12()
    host.put("/proc/50/comm", "anything")
    host.put("/proc/50/status", f"Name:\tanything\nUid:\t{user}\t{user}\t{user}\t{user}\n")
    host.put("/proc/50/environ", environment)
    for process in ("self", "50"):
        host.put(f"/proc/{process}/ns/net", "")
        host.symlink("pid:[1]", f"/proc/{process}/ns/pid")
    return host


@pytest.mark.parametrize(("user", "found"), [(VM_USERS[0], 1), (VM_USERS[-1], 1), (VM_USERS[-1] + 1, 0), (1000, 0), (0, 0)])
def test_a_process_of_a_vms_user_is_found_though_it_says_nothing(user: int, found: int) -> None:
    assert len(processes_of_ours(process_of(user), Layout())) == found


def test_what_a_process_of_a_vms_user_says_is_not_read() -> None:
    """Its memory may never answer, and it can claim to be another VM's."""
    host = process_of(VM_USERS[3], environment="NQRUST_SCOPE=fc-another\0")
    assert scopes(host, "fc-") == []
    assert "another" not in "".join(processes_of_ours(host, Layout()))
    assert scopes(process_of(0, environment="NQRUST_SCOPE=fc-another\0"), "fc-") == ["fc-another"]


def test_what_a_process_of_a_person_says_is_not_read() -> None:
    """A person of the host could keep root waiting, and make an uninstall find what it did not leave."""
    host, claim = process_of(1000, environment="NQRUST_SCOPE=fc-another\0"), ["process 50 anything of fc-another"]
    assert processes_of_ours(host, Layout()) == []
    assert processes_of_ours(process_of(33, environment="NQRUST_SCOPE=fc-another\0"), Layout()) == claim
    host.users["nqrust"] = User("nqrust", 1000, 1000, "/", "/bin/sh")
    assert processes_of_ours(host, Layout()) == claim, "the user of the service may have been there before"

"""A VM's TAP comes to the bridge: beside a boot, before a guest continues, and after an agent that was killed."""

from __future__ import annotations

import threading

import pytest

from nqrust.agent.errors import Failed
from nqrust.contract.names import tap_name

from .conftest import VM, Bench


def test_a_guest_boots_while_its_tap_comes_to_the_bridge(bench: Bench) -> None:
    begin, begun = bench.vmm.begin, threading.Event()
    bench.vmm.begin = lambda machine: (begin(machine), begun.set())[0]  # type: ignore[method-assign]
    bench.taps.before_it_takes = lambda: begun.wait(10) or pytest.fail("it waits for the TAP")
    assert bench.service.put(bench.spec()).state == "running"
    assert bench.taps.links == {tap_name(VM): VM}
    assert bench.scopes.spawned[0].tap == tap_name(VM), "its launcher makes it"


def test_a_vm_whose_tap_cannot_be_connected_does_not_run(bench: Bench) -> None:
    def fail() -> None:
        raise Failed("NQR-NET-702", "The TAP could not be set up.", "Run `nqr doctor`.")

    bench.taps.before_it_takes = fail
    with pytest.raises(Failed, match="TAP"):
        bench.service.put(bench.spec())
    assert bench.service.status(VM).state == "stopped"


def test_a_guest_that_ended_before_its_tap_was_taken_is_no_error(bench: Bench) -> None:
    def ended() -> None:
        bench.scopes.alive.pop(VM)
        (bench.vm_dir() / "exit-status").write_text("0\n")
        raise Failed("NQR-NET-702", "The TAP could not be set up.", "Run `nqr doctor`.")

    bench.taps.before_it_takes = ended
    assert bench.service.put(bench.spec()).state == "stopped"


@pytest.mark.parametrize("where", ["in the VM's namespace", "on the host, down"])
def test_a_tap_that_a_killed_agent_left_is_connected(bench: Bench, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.service.put(bench.spec())
    bench.taps.links.clear()
    assert bench.service.stranded() == [], "a TAP that is nowhere cannot be connected"
    if where == "on the host, down":
        bench.taps.links[tap_name(VM)] = ""
    else:
        read = bench.service.host.read_text
        monkeypatch.setattr(
            bench.service.host, "read_text", lambda path: f"  {tap_name(VM)}: 0 0" if path.endswith("net/dev") else read(path)
        )
    assert bench.service.stranded() == [VM]
    assert bench.service.reconnect(VM)
    assert bench.taps.links == {tap_name(VM): VM}
    assert not bench.service.reconnect(VM)


def test_a_tap_that_a_killed_agent_left_is_taken_before_the_guest_goes_on(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.service.pause(VM)
    bench.taps.links[tap_name(VM)] = ""
    resume, seen = bench.vmm.resume, list[bool]()
    bench.vmm.resume = lambda directory: (seen.append(bench.taps.connected(tap_name(VM), VM)), resume(directory))[1]  # type: ignore[method-assign]
    assert bench.service.resume(VM).state == "running"
    assert seen == [True]

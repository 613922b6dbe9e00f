"""The build of the guest agent uses the machine's tools, checks the result, and leaves no partial file."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.image.errors import ImageError
from nqrust.image.guest_agent import build_guest_agent

SOURCE, TARGET = "/opt/src/guest-agent", "/opt/out/guest-agent"
BINARY = b"\x7fELF static"


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    host.put(f"{SOURCE}/Cargo.toml", 'version = "0.1.0"\n')
    host.put("/opt/out/keep", "")
    host.on("/usr/bin/rustc", "--print", "sysroot", answer="/usr\n")
    host.on(f"{TARGET}.building/guest-agent", "--version", answer="guest-agent 0.1.0\n")
    return host


def compiles(content: bytes) -> object:
    def answer(machine: FakeHost, cmd: Command) -> None:
        machine.put(cmd.argv[cmd.argv.index("-o") + 1], content)

    return answer


def test_guest_agent_builds_with_rustc_alone(host: FakeHost) -> None:
    host.install("rustc")
    host.on("/usr/bin/rustc", "--edition", prefix=True, changes=True, answer=compiles(BINARY))
    build_guest_agent(host, SOURCE, TARGET)
    assert host.read_bytes(TARGET) == BINARY
    stat = host.stat(TARGET)
    assert stat is not None and stat.mode == 0o755
    assert host.listdir("/opt/out") == ["guest-agent", "keep"]


def test_an_old_cargo_is_no_obstacle(host: FakeHost) -> None:
    host.install("cargo")
    host.install("rustc")
    host.on("/usr/bin/cargo", prefix=True, answer=CommandFailed(("cargo",), 101, "error: lock file version 4"))
    host.on("/usr/bin/rustc", "--edition", prefix=True, changes=True, answer=compiles(BINARY))
    build_guest_agent(host, SOURCE, TARGET)
    assert host.read_bytes(TARGET) == BINARY


def test_guest_agent_build_without_a_compiler_is_refused(host: FakeHost) -> None:
    with pytest.raises(ImageError) as caught:
        build_guest_agent(host, SOURCE, TARGET)
    assert caught.value.code == "NQR-REL-030" and "rustc" in caught.value.cure


def test_a_failing_compiler_is_quoted(host: FakeHost) -> None:
    host.install("rustc")
    failure = CommandFailed(("rustc",), 1, "note: x\nerror: linker `cc` not found\nabort")
    host.on("/usr/bin/rustc", "--edition", prefix=True, answer=failure)
    with pytest.raises(ImageError, match="linker `cc` not found") as caught:
        build_guest_agent(host, SOURCE, TARGET)
    assert caught.value.code == "NQR-REL-031"
    assert host.listdir("/opt/out") == ["keep"]


@pytest.mark.parametrize("content", [b"no elf", b"\x7fELF /lib64/ld-linux-x86-64.so.2", b"\x7fELF" + b"x" * (3 << 20)])
def test_dynamic_guest_agent_binary_is_refused(host: FakeHost, content: bytes) -> None:
    host.install("rustc")
    host.on("/usr/bin/rustc", "--edition", prefix=True, changes=True, answer=compiles(content))
    with pytest.raises(ImageError) as caught:
        build_guest_agent(host, SOURCE, TARGET)
    assert caught.value.code == "NQR-REL-032"
    assert not host.exists(TARGET)

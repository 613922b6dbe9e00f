"""The agent's filter of system calls, read as the kernel reads it. The kernel itself: tests/live/agent/test_vmm_taken_over.py."""

from __future__ import annotations

import errno
import struct

import pytest
from structlog.testing import capture_logs

from nqrust.agent import __main__ as agent
from nqrust.host import confinement
from nqrust.host.confinement import program

ALLOWED = 0x7FFF0000
X86_64, I386 = 0xC000003E, 0x40000003
READ, CLONE, UNSHARE, IOCTL, SOCKET, SOCKETPAIR, CLONE3, SETNS, URING_SETUP = 0, 56, 272, 16, 41, 53, 435, 308, 425
PTRACE, PERF, BPF, KEYCTL, USERFAULTFD = 101, 298, 321, 250, 323
THREAD, NEWUSER, NEWNET, NEWNS = 0x3D0F00, 0x10000000, 0x40000000, 0x20000
TUNSETIFF, SIOCSIFHWADDR = 0x400454CA, 0x8924
FALLOCATE, KEEP_SIZE, PUNCH_HOLE, INSERT_RANGE, ZERO_RANGE = 285, 1, 2, 0x20, 0x10
RESVSP, RESVSP64, ZERO = 0x40305828, 0x4030582A, 0x40305839


def answer(call: int, *arguments: int, architecture: int = X86_64) -> int:
    """What bpf(2) makes of a seccomp_data."""
    data = struct.pack("<IIQ6Q", call, architecture, 0, *(*arguments, *[0] * 6)[:6])
    lines, at, held = program(), 0, 0
    while True:
        code, if_true, if_false, value = lines[at]
        at += 1
        if code == 0x20:
            (held,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return value
        else:
            holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (READ, (0,)),
        (CLONE, (THREAD,)),
        (UNSHARE, (NEWNET | NEWNS,)),
        (SETNS, (3, NEWNET)),
        (IOCTL, (3, TUNSETIFF)),
        *((SOCKET, (family, 1)) for family in (1, 2, 10, 16, 17)),
        (SOCKETPAIR, (1, 1)),
        (FALLOCATE, (3, PUNCH_HOLE | KEEP_SIZE, 0, 4096)),
    ],
)
def test_what_the_agent_and_its_programs_need_is_allowed(call: int, arguments: tuple[int, ...]) -> None:
    assert answer(call, *arguments) == ALLOWED


@pytest.mark.parametrize(
    ("call", "arguments", "why"),
    [
        (CLONE, (NEWUSER | 17,), errno.EPERM),
        (UNSHARE, (NEWUSER,), errno.EPERM),
        (UNSHARE, (NEWUSER | NEWNET,), errno.EPERM),
        (IOCTL, (3, SIOCSIFHWADDR), errno.EPERM),
        (IOCTL, (3, SIOCSIFHWADDR | 1 << 32), errno.EPERM),  # the kernel reads the low half alone
        (CLONE3, (0x1000, 88), errno.ENOSYS),
        (SOCKET, (40, 1), errno.EAFNOSUPPORT),
        (SOCKETPAIR, (30, 1), errno.EAFNOSUPPORT),  # it would load the module, too
        (URING_SETUP, (4, 0), errno.ENOSYS),  # a ring opens sockets without socket(2)
        # Room on the disk; beyond the end of a file RLIMIT_FSIZE does not apply. And a file that grows from its middle.
        *(
            (FALLOCATE, (3, mode), errno.EOPNOTSUPP)
            for mode in (0, KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE, INSERT_RANGE, 0x40)
        ),
        *((IOCTL, (3, request), errno.EOPNOTSUPP) for request in (RESVSP, RESVSP64, ZERO)),
        *((call, (), errno.EPERM) for call in (PTRACE, PERF, BPF, KEYCTL, USERFAULTFD)),
        (0x40000000 | UNSHARE, (NEWUSER,), errno.ENOSYS),
    ],
)
def test_what_only_an_attacker_needs_is_refused(call: int, arguments: tuple[int, ...], why: int) -> None:
    assert answer(call, *arguments) == 0x50000 | why


def test_the_calls_of_32_bit_programs_are_no_way_around() -> None:
    assert answer(310, NEWUSER, architecture=I386) == 0x50000 | errno.ENOSYS


def test_a_kernel_that_refuses_the_filter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement.platform, "machine", lambda: "riscv64")
    with capture_logs() as logs:
        agent._confine()
    assert logs == [{"event": "agent.not_confined", "log_level": "warning", "why": "there is no filter for riscv64"}]

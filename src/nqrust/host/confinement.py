"""System calls that no process of the agent makes, nor any program that reads what strangers made. seccomp(2), bpf(2).

The agent loads the filter into itself before it starts anything. Each program that it starts inherits it and cannot take it
off: launchers, VMMs, consoles, file-system tools. nqr starts the programs that read an image under it, too (`confined`). It
refuses six things, and allows the rest:

    user namespaces     a process without privileges has all capabilities in one, and so more of the kernel to attack
    rare sockets        network namespaces do not separate AF_VSOCK, and other families load kernel modules
    io_uring            the kernel makes its calls out of a filter's sight, such as one for a rare socket. io_uring_enter(2)
    SIOCSIFHWADDR       whoever holds a TAP open can change its MAC, without any capability (ip(8) uses netlink instead)
    debugging           of processes and of the kernel: ptrace, perf, eBPF, keys. Attacks on kernels need them, no VM does
    reserved room       one call takes the whole disk, to which the limit for the length of files (RLIMIT_FSIZE) may not even
                        apply. fallocate(2); FALLOC_FL_KEEP_SIZE. A program that writes is slow enough for the agent's looks

A VMM and systemd add their own filters to this one.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

_CLONE_NEWUSER = 0x10000000
_SIOCSIFHWADDR = 0x8924
_X86_64, _X32 = 0xC000003E, 0x40000000  # AUDIT_ARCH_X86_64; the bit of the x32 calls
_SECCOMP, _CLONE, _UNSHARE, _IOCTL, _SOCKET, _SOCKETPAIR, _CLONE3, _URING = 317, 56, 272, 16, 41, 53, 435, 425
_FALLOCATE = 285
_PUNCH_HOLE = 0x3  # with FALLOC_FL_KEEP_SIZE, as it has to be. It gives room back
_RESERVING = tuple(0x40305800 | number for number in (10, 11, 36, 37, 40, 42, 57))
"""Ioctls that reserve room like fallocate(2): FS_IOC_RESVSP, FS_IOC_RESVSP64, FS_IOC_ZERO_RANGE (linux/falloc.h). The first four were
XFS's until Linux 5.17."""
_DEBUGGING = (
    *(101, 310, 311, 312, 438),  # ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_getfd
    *(298, 321, 323),  # perf_event_open, bpf, userfaultfd
    *(248, 249, 250),  # add_key, request_key, keyctl
)
_FAMILIES = (1, 2, 10, 16, 17)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data; low halves of the arguments
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|..|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS, _EOPNOTSUPP, _EAFNOSUPPORT = 1, 38, 95, 97
_NOT_HERE = _ERRNO | _EOPNOTSUPP


def program() -> list[tuple[int, int, int, int]]:
    """Return the filter: (code, jump if true, jump if false, value). Pure. The last lines are the answers."""
    calls = [
        (_LOAD, "next", "next", _ARCHITECTURE),
        (_EQUAL, "next", "none", _X86_64),
        (_LOAD, "next", "next", _NUMBER),
        (_AT_LEAST, "none", "next", _X32),
        # Its flags are in memory, which a filter cannot read. The C library uses clone(2) then.
        (_EQUAL, "none", "next", _CLONE3),
        (_EQUAL, "none", "next", _URING),  # what uses it has another way for kernels without it
        *((_EQUAL, "refuse", "next", call) for call in _DEBUGGING),
        (_EQUAL, "flags", "next", _CLONE),
        (_EQUAL, "flags", "next", _UNSHARE),
        (_EQUAL, "family", "next", _SOCKET),
        (_EQUAL, "family", "next", _SOCKETPAIR),
        (_EQUAL, "mode", "next", _FALLOCATE),
        (_EQUAL, "next", "allow", _IOCTL),
        (_LOAD, "next", "next", _SECOND),
        *((_EQUAL, "unsupported", "next", request) for request in _RESERVING),
        (_EQUAL, "refuse", "allow", _SIOCSIFHWADDR),
    ]
    flags = [(_LOAD, "next", "next", _FIRST), (_ANY_BIT, "refuse", "allow", _CLONE_NEWUSER)]
    family = [(_LOAD, "next", "next", _FIRST), *((_EQUAL, "allow", "next", family) for family in _FAMILIES)]
    # A file system without it answers the same, so programs have another way.
    mode = [(_LOAD, "next", "next", _SECOND), (_EQUAL, "allow", "unsupported", _PUNCH_HOLE)]
    said = (_ERRNO | _EAFNOSUPPORT, _ALLOW, _ERRNO | _EPERM, _ERRNO | _ENOSYS, _NOT_HERE)
    lines = [*calls, *flags, *mode, *family, *((_RETURN, "", "", value) for value in said)]
    places = {"flags": len(calls), "mode": len(calls) + len(flags), "family": len(calls) + len(flags) + len(mode)}
    end = places["family"] + len(family)
    places |= {"allow": end + 1, "refuse": end + 2, "none": end + 3, "unsupported": end + 4}

    def jump(at: int, name: str) -> int:
        return places.get(name, at + 1) - at - 1

    return [(code, jump(at, true), jump(at, false), value) for at, (code, true, false, value) in enumerate(lines)]


def confine() -> str:
    """Load the filter into this process and all that it starts. Return why that cannot be; empty if it is done.

    Call it before there are threads: each thread has its own filters. It needs root."""
    if platform.machine() != "x86_64":
        return f"there is no filter for {platform.machine()}"
    lines = b"".join(struct.pack("HBBI", *line) for line in program())
    text = ctypes.create_string_buffer(lines)
    # struct sock_fprog: the number of lines, then their address after padding.
    given = ctypes.create_string_buffer(struct.pack("H6xQ", len(lines) // 8, ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    # Without SPEC_ALLOW some kernels slow down every program under a filter. Older kernels do not know the flag.
    for flags in (_SPEC_ALLOW, 0):
        if libc.syscall(_SECCOMP, _SET_MODE_FILTER, flags, given) == 0:
            return ""
    return os.strerror(ctypes.get_errno())


_RUN = "import sys; sys.path.insert(0, sys.argv[1]); from nqrust.host import confinement; confinement.run(sys.argv[2:])"


def confined(*argv: str) -> tuple[str, ...]:
    """Return the command of root's that runs `argv` under the filter, or without it where the kernel has none. Its Python loads
    nothing from its working folder (-I), which may be a stranger's."""
    sources = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return (sys.executable, "-I", "-S", "-B", "-c", _RUN, sources, *argv)


def run(argv: list[str]) -> None:
    """Become `argv`, under the filter."""
    confine()
    os.execvp(argv[0], argv)

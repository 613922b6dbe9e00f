"""A separate process that creates the clone, runs the work in it, and ends with it.

this process         new mount, network, host name and IPC namespaces; ends when `nqr` does
├── slirp4netns      new PID namespace, back in the host's network
└── PID 1            new PID and control group namespaces, the clone's root: systemd, or a small init

Standard input: a CloneSpec. Standard output: JSON lines of the work and of this process (`type` begins with `clone_`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from typing import Any

from nqrust.host import namespaces as ns
from nqrust.host.local import LocalHost
from nqrust.installer.rehearsal import boot, card, carrier, tree, uppers
from nqrust.installer.rehearsal.spec import CloneSpec

_START_LIMIT = 180.0  # seconds until the work must start
_NEVER = (16, 17, 22, 25, 30, 33, 34, 35, 36)
"""Capabilities that the clone never has, because host and clone share one kernel: SYS_MODULE, SYS_RAWIO, SYS_BOOT, SYS_TIME,
AUDIT_CONTROL, MAC_ADMIN, SYSLOG, WAKE_ALARM, BLOCK_SUSPEND (capabilities(7))."""


def main() -> int:
    spec = CloneSpec.from_json(sys.stdin.read())
    ns.end_with_parent(signal.SIGKILL)
    if os.getppid() != spec.parent:
        return 1
    try:
        return _run(spec)
    except OSError as error:
        _say({"type": "clone_failed", "reason": error.strerror or str(error)})
        return 1


def _run(spec: CloneSpec) -> int:
    groups = boot.own_groups() if spec.boot else []
    outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    ns.unshare(ns.CLONE_NEWNS | ns.CLONE_NEWNET | ns.CLONE_NEWUTS | ns.CLONE_NEWIPC)
    ns.mount("none", "/", flags=ns.MS_REC | ns.MS_PRIVATE)
    socket.sethostname(spec.hostname)
    with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as file:
        file.write("0")  # a new namespace copies it from the machine's first one
    root, layers, failed = tree.cover(spec)
    carrying = _way_out(spec, outside)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(f"{spec.scratch}/control/socket")
    listening.listen(1)
    ns.unshare(ns.CLONE_NEWPID)
    first = _child(lambda: _be_first(spec, root, groups))
    _say({"type": "clone_started", "left_out": failed})
    marks: list[uppers.Mark] = []
    try:
        code = _follow(listening, first, lambda: marks.extend(map(uppers.mark, layers)))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        if carrying is not None:
            os.kill(carrying, signal.SIGKILL)
            os.waitpid(carrying, 0)
    for layer, since in zip(layers, marks, strict=False):
        for one in uppers.written(layer, since):
            _say({"type": "clone_written", "sign": one.sign, "path": one.path, "size": one.size})
    return code


def _way_out(spec: CloneSpec, outside: int) -> int | None:
    """Return the process that carries the clone's traffic, or None. Configures the card; without a carrier, it reaches
    nothing."""
    if not spec.connected:
        os.close(outside)
        _close_card(spec)
        return None
    inside, own = (os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "pid"))
    answer, ready = os.pipe()
    ns.unshare(ns.CLONE_NEWPID)
    pid = _child(lambda: carrier.run(spec, LocalHost(), outside, inside, ready))
    ns.setns(own, ns.CLONE_NEWPID)
    for descriptor in (inside, own, outside, ready):
        os.close(descriptor)
    reason = carrier.wait(answer)
    if not reason:
        card.configure(spec.uplink, tuple(f"{address}/32" for address in spec.refused))
        return pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    _close_card(spec)
    _say({"type": "clone_without_network", "reason": reason})
    return None


def _close_card(spec: CloneSpec) -> None:
    """Give the clone a card that reaches nothing."""
    card.open_card(spec.uplink.name)  # stays open until this process ends
    card.configure(spec.uplink, ("0.0.0.0/0",))


def _be_first(spec: CloneSpec, root: str, groups: list[str]) -> None:
    boot.join(groups)
    ns.unshare(ns.CLONE_NEWNS | ns.CLONE_NEWCGROUP)
    ns.mount("none", "/", flags=ns.MS_REC | ns.MS_PRIVATE)
    tree.enter(spec, root)
    for capability in _NEVER:
        ns.give_up_capability(capability)
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    boot.boot(spec)


def _child(work: Any) -> int:
    """Fork and return the child's id. The child does the work and exits. It ends with this process."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ns.end_with_parent(signal.SIGKILL)
        work()
        code = 0
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(code)


def _follow(listening: socket.socket, first: int, when_ready: Any) -> int:
    """Forward the work's lines until it ends. Answers each `clone_ready` after `when_ready`."""
    waited = time.monotonic()
    listening.settimeout(0.2)
    while True:
        try:
            connection, _ = listening.accept()
            break
        except TimeoutError:
            if os.waitid(os.P_PID, first, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return _gone("its first process ended")
            if time.monotonic() - waited > _START_LIMIT:
                return _gone(f"it did not come up within {_START_LIMIT:g} s")
    code: int | None = None
    with connection, connection.makefile("rwb") as stream:
        for raw in stream:
            line = json.loads(raw)
            if line.get("type") == "clone_ready":
                when_ready()
                stream.write(b"go\n")
                stream.flush()
                continue
            if line.get("type") == "clone_done":
                code = int(line["code"])
            sys.stdout.buffer.write(raw)
            sys.stdout.buffer.flush()
    return _gone("it ended before its work was done") if code is None else 0


def _gone(reason: str) -> int:
    _say({"type": "clone_failed", "reason": reason})
    return 1


def _say(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())

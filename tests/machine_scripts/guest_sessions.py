"""Runs in network and mount namespaces, started by tests/live/agent/test_guest_sessions.py: commands in a guest without a network.

guest_sessions.py IMAGE_FOLDER WORK_FOLDER [VMM PROGRAMS]     prints one JSON object of what was seen
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.machine_scripts.vms_on_a_bridge import A, B, Site, guest, up
from websockets.sync.client import ClientConnection, connect

from nqrust.cli.vm import copy
from nqrust.cli.vm.guest_session import Session, SessionFailed
from nqrust.client.agent import AgentClient
from nqrust.contract.guest import ExecRequest, Kind, size

MIB = 1 << 20


def exec_socket(client: AgentClient, vm_id: str) -> ClientConnection:
    """A session's connection that needs no event loop, as `nqr` has it."""
    options = asyncio.run(client.console_options())
    del options["create_connection"]  # the manager's, for asyncio
    return connect(client.exec_url(vm_id), **options, proxy=None, compression=None)


class Ran:
    """One command in a guest, through the agent's WebSocket and the code of `nqr`."""

    def __init__(self, client: AgentClient, vm_id: str, command: str, terminal: tuple[int, int] | None = None) -> None:
        self.out, self.err = bytearray(), bytearray()
        self.connection = exec_socket(client, vm_id)
        self.session = Session(self.connection, "web1", self._take)
        self.some = threading.Event()
        self.session.start(ExecRequest((b"/bin/sh", b"-c", command.encode()), terminal=terminal))

    def _take(self, kind: Kind, data: bytes) -> None:
        (self.out if kind is Kind.stdout else self.err).extend(data)
        self.some.set()

    def end(self, data: bytes = b"") -> Any:
        """Send input and its end; return the exit code, or the code and the words of an error."""
        self.session.write(data)
        self.session.end_input()
        return self.wait()

    def wait(self) -> Any:
        try:
            return self.session.wait()
        except SessionFailed as error:
            return [error.code, error.exit_code, error.what]
        finally:
            self.connection.close()


def plainly(client: AgentClient) -> dict[str, Any]:
    """Exit codes, streams, variables, terminals, signals."""
    seen: dict[str, Any] = {}
    seen["codes"] = [Ran(client, A, command).end() for command in ("true", "exit 42", "kill -9 $$")]
    both = Ran(client, A, "echo out; echo err >&2; pwd; id -u")
    seen["streams"] = [both.end(), both.out.decode(), both.err.decode()]
    data = os.urandom(MIB)
    copied = Ran(client, A, "cat")
    seen["mebibyte"] = [copied.end(data), bytes(copied.out) == data]
    terminal = Ran(client, A, "stty size; read x; stty size; echo $x", (33, 101))
    end = time.monotonic() + 20
    while b"\n" not in terminal.out and time.monotonic() < end:  # what is typed before would be echoed into the line
        time.sleep(0.01)
    terminal.session.send(Kind.resize, size(40, 120))
    terminal.session.write(b"typed\r")
    seen["terminal"] = [terminal.wait(), terminal.out.decode()]
    signalled = Ran(client, A, "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    signalled.some.wait(20)
    signalled.session.send(Kind.signal, b"\x0f")
    seen["signal"] = signalled.wait()
    seen["no_program"] = None
    missing = exec_socket(client, A)
    session = Session(missing, "web1", lambda kind, data: None)
    session.start(ExecRequest((b"no-such-program",)))
    try:
        session.wait()
    except SessionFailed as error:
        seen["no_program"] = [error.code, error.exit_code]
    seen["left_running"] = Ran(client, A, "sleep 300 & echo $!").end()
    return seen


def copied(client: AgentClient, work: Path) -> dict[str, Any]:
    """A file and a folder into the guest and back, and what is refused."""

    @contextmanager
    def opened(sink: Any, woken: Any) -> Iterator[Session]:
        with exec_socket(client, A) as connection:
            yield Session(connection, "web1", sink, woken)

    def refused(action: Callable[[], None]) -> list[str]:
        try:
            action()
        except SessionFailed as error:
            return [error.code, error.what]
        return []

    tree = work / "tree"
    (tree / "sub folder").mkdir(parents=True)
    (tree / "big").write_bytes(os.urandom(8 * MIB))
    (tree / "sub folder" / ("long" * 40)).write_text("x")
    (tree / "empty").touch(0o755)
    (tree / "link").symlink_to("big")
    os.mkfifo(tree / "pipe")
    seen: dict[str, Any] = {}
    copy.upload(opened, "web1", str(tree), "/tmp")
    copy.upload(opened, "web1", str(tree / "big"), "/tmp/renamed")
    there = Ran(client, A, "cd /tmp && sha256sum tree/big renamed && stat -c '%a %u %F' tree/empty tree/link && ls tree")
    there.end()
    seen["there"] = [there.out.decode().split(), hashlib.sha256((tree / "big").read_bytes()).hexdigest()]
    (work / "back").mkdir()
    copy.download(opened, "web1", "/tmp/tree", str(work / "back"))
    copy.download(opened, "web1", "/tmp/tree/link", str(work / "one"))
    back = work / "back" / "tree"
    seen["back"] = [
        sorted(path.name[:8] for path in back.rglob("*")),
        (back / "big").read_bytes() == (work / "one").read_bytes() == (tree / "big").read_bytes(),
        oct((back / "empty").stat().st_mode & 0o777),
        os.readlink(back / "link"),
    ]
    seen["not_there"] = refused(lambda: copy.download(opened, "web1", "/no/such", str(work)))
    seen["no_folder"] = refused(lambda: copy.upload(opened, "web1", str(tree), "/no/such/"))
    seen["full"] = refused(lambda: copy.upload(opened, "web1", str(tree / "big"), "/proc/"))
    return seen


def together(client: AgentClient) -> list[bool]:
    """Eight sessions at once, each with its own data."""
    good: list[bool] = []

    def one() -> None:
        data = os.urandom(MIB // 4)
        ran = Ran(client, A, "cat")
        good.append(ran.end(data) == 0 and bytes(ran.out) == data)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return good


def measured(client: AgentClient) -> dict[str, float]:
    started = time.monotonic()
    for _ in range(50):
        assert Ran(client, A, "true").end() == 0
    each = (time.monotonic() - started) / 50
    started = time.monotonic()
    ran = Ran(client, A, "dd if=/dev/zero bs=64k count=512 2>/dev/null")
    assert ran.end() == 0 and len(ran.out) == 32 * MIB
    down = 32 / (time.monotonic() - started)
    started = time.monotonic()
    ran = Ran(client, A, "sha256sum")
    data = bytes(32 * MIB)
    assert ran.end(data) == 0 and ran.out.split()[0].decode() == hashlib.sha256(data).hexdigest()
    up = 32 / (time.monotonic() - started)
    return {"ms": round(each * 1000, 1), "down_mib": round(down, 1), "up_mib": round(up, 1)}


async def broken(site: Site, client: AgentClient, start: Callable[[], Any]) -> dict[str, Any]:
    """What ends a session, and that the next one works."""
    seen: dict[str, Any] = {}
    assert site.agent is not None

    def running() -> Ran:
        ran = Ran(client, A, "echo ready; cat")
        ran.some.wait(20)
        return ran

    ran = await asyncio.to_thread(running)
    site.agent.kill()
    site.agent.wait()
    seen["agent_killed"] = await asyncio.to_thread(ran.wait)
    site.start_agent()
    await up(site)
    seen["after_agent"] = await asyncio.to_thread(lambda: Ran(client, A, "exit 3").end())
    half = await asyncio.to_thread(running)
    half.connection.socket.close()  # a viewer that is gone without a word
    ran = await asyncio.to_thread(running)
    await asyncio.to_thread(lambda: Ran(client, A, "kill $(pidof guest-agent)").wait())
    seen["guest_agent_killed"] = await asyncio.to_thread(ran.wait)
    for _ in range(50):
        seen["after_guest_agent"] = await asyncio.to_thread(lambda: Ran(client, A, "exit 4").end())
        if seen["after_guest_agent"] == 4:
            break
        await asyncio.sleep(0.2)
    # a snapshot of the running VM, and the VM that starts from it
    await client.create_snapshot(A, "live")
    seen["after_snapshot"] = await asyncio.to_thread(lambda: Ran(client, A, "exit 5").end())
    ran = await asyncio.to_thread(running)
    await client.stop_vm(A)
    seen["vm_stopped"] = await asyncio.to_thread(ran.wait)
    seen["not_running"] = await asyncio.to_thread(lambda: Ran(client, A, "true").end())
    await client.restore_snapshot(A, "live")
    seen["after_restore"] = await asyncio.to_thread(lambda: Ran(client, A, "exit 6").end())
    await client.put_vm(site.spec(B, "web2", "10.0.0.21", guest_exec=False))
    await guest(client, B)
    seen["switched_off"] = await asyncio.to_thread(lambda: Ran(client, B, "true").end())
    seen["port_switched_off"] = (site.work / "fc" / "vms" / B / "run" / "guest.sock").exists()
    return seen


async def scenario(site: Site) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    site.start_agent()
    await up(site)
    async with site.client() as client:
        started = time.monotonic()
        await client.put_vm(site.spec(A, "web1", "10.0.0.20"))
        while (first := await asyncio.to_thread(lambda: Ran(client, A, "exit 7").end())) != 7:
            if time.monotonic() - started > 120:
                raise SystemExit(f"{first}\n" + await client.console_log(A))
            await asyncio.sleep(0.1)
        seen["seconds_to_exec"] = round(time.monotonic() - started, 2)
        await guest(client, A)
        seen["seconds_to_report"] = round(time.monotonic() - started, 2)
        seen |= await asyncio.to_thread(plainly, client)
        seen["copied"] = await asyncio.to_thread(copied, client, site.work)
        seen["together"] = await asyncio.to_thread(together, client)
        seen["measured"] = await asyncio.to_thread(measured, client)
        seen |= await broken(site, client, lambda: None)
        for vm in (await client.inventory()).vms:
            await client.delete_vm(vm.id)
    return seen


if __name__ == "__main__":
    site = Site(Path(sys.argv[1]), Path(sys.argv[2]))
    if len(sys.argv) > 3:
        site.run_under(sys.argv[3], sys.argv[4])
    site.answer(scenario)

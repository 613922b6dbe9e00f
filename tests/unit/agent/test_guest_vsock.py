"""How the agent connects to a guest's vsock through Firecracker's socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from tests.places import ROOT

from nqrust.agent.api import app
from nqrust.agent.vmm.firecracker.driver import Firecracker
from nqrust.contract.guest import VSOCK_PORT
from nqrust.host.local import LocalHost


@contextlib.contextmanager
def listening(directory: Path) -> Iterator[socket.socket]:
    """Firecracker's end of the guest's vsock."""
    place = directory / "jail" / "firecracker" / directory.name / "root" / "guest"
    place.mkdir(parents=True)
    folder = os.open(place, os.O_PATH)  # the path itself is too long for bind(2)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{folder}/vsock.sock")
        os.close(folder)
        server.listen()
        yield server


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [(b"OK 1073741824\nfirst bytes of the guest", True), (b"", False), (b"NO\n", False), (b"O" * 1000, False)],
)
def test_a_connection_to_the_guest_begins_with_firecrackers_answer(tmp_path: Path, answer: bytes, accepted: bool) -> None:
    asked: list[bytes] = []

    def serve(server: socket.socket) -> None:
        with server.accept()[0] as link:
            asked.append(link.recv(64))
            link.sendall(answer)

    with listening(tmp_path) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        if accepted:
            with Firecracker(LocalHost()).connect_guest(str(tmp_path)) as link:
                assert link.recv(64) == b"first bytes of the guest"
        else:
            with pytest.raises(ConnectionError):
                Firecracker(LocalHost()).connect_guest(str(tmp_path))
        thread.join()
    assert asked == [b"CONNECT 1023\n"]


def test_where_the_guest_agent_listens_only_root_of_its_guest_may() -> None:
    """On another port, any program of the guest could take the place of its guest agent: vsock(7)."""
    listens = re.search(r"^const VSOCK_PORT: u32 = (\d+);$", (ROOT / "guest-agent/src/transport.rs").read_text(), re.MULTILINE)
    assert listens is not None and int(listens[1]) == VSOCK_PORT < 1024


def test_a_hostile_firecracker_keeps_the_agent_waiting_for_two_seconds_at_most(tmp_path: Path) -> None:
    """With one byte at a time, each within the timeout of a read."""
    over = threading.Event()

    def drip(server: socket.socket) -> None:
        with server.accept()[0] as link, contextlib.suppress(OSError):
            while not over.wait(0.5):
                link.sendall(b"O")

    with listening(tmp_path) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        began = time.monotonic()
        with pytest.raises(ConnectionError, match="in time"):
            Firecracker(LocalHost()).connect_guest(str(tmp_path))
        assert time.monotonic() - began < 4
        over.set()
        thread.join()


async def test_other_work_of_the_agent_goes_on_while_guests_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many VMs as there are threads for verbs are in the hands of their guests."""
    asked: list[Any] = []
    monkeypatch.setattr(app, "Channels", lambda service, run: asked.append(run))
    verbs = app.Verbs(threads=2)
    app.build(MagicMock(), verbs, host_id=lambda: None, command_hashes=tuple, local_hash="")
    over = threading.Event()
    waiting = [asyncio.create_task(asked[0](over.wait)) for _ in range(4)]
    try:
        assert await asyncio.wait_for(verbs.run(lambda: "done"), 5) == "done"
    finally:
        over.set()
        await asyncio.gather(*waiting)

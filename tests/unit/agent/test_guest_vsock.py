"""How the agent connects to a guest's vsock through Firecracker's socket."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from nqrust.agent.vmm.firecracker.driver import Firecracker
from nqrust.host.local import LocalHost


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

    place = tmp_path / "jail" / "firecracker" / tmp_path.name / "root" / "guest"
    place.mkdir(parents=True)
    folder = os.open(place, os.O_PATH)  # the path itself is too long for bind(2)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{folder}/vsock.sock")
        os.close(folder)
        server.listen()
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        if accepted:
            with Firecracker(LocalHost()).connect_guest(str(tmp_path)) as link:
                assert link.recv(64) == b"first bytes of the guest"
        else:
            with pytest.raises(ConnectionError):
                Firecracker(LocalHost()).connect_guest(str(tmp_path))
        thread.join()
    assert asked == [b"CONNECT 1024\n"]

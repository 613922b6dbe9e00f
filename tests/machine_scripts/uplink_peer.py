"""A connection to ADDRESS:PORT that stays open, and new ones beside it. Stops when the file STOP appears, then prints the
longest pause of both in seconds, and whether the first one is still open.

    uplink_peer.py ADDRESS PORT STOP
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time

ADDRESS, PORT, STOP = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Pauses:
    def __init__(self) -> None:
        self.last, self.longest = time.monotonic(), 0.0

    def answered(self) -> None:
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now


def stopped() -> bool:
    return os.path.exists(STOP)


def echo(connection: socket.socket) -> None:
    connection.sendall(b"x")
    if not connection.recv(1):
        raise OSError("closed")


def stay_connected(pauses: Pauses, result: dict[str, object]) -> None:
    with socket.create_connection((ADDRESS, PORT), timeout=5) as connection:
        connection.settimeout(40)
        result["open"] = True
        try:
            while not stopped():
                echo(connection)
                pauses.answered()
                time.sleep(0.05)
        except OSError as error:
            result["open"] = False
            result["error"] = str(error)


def connect_anew(pauses: Pauses) -> None:
    """Each connection stays open for as long as `ssh HOST true` needs. On a fast machine a shorter one can be over before the
    guard looks."""
    with contextlib.ExitStack() as kept:
        ends: list[tuple[float, socket.socket]] = []
        while not stopped():
            with contextlib.suppress(OSError):
                connection = kept.enter_context(socket.create_connection((ADDRESS, PORT), timeout=0.5))
                ends.append((time.monotonic() + 0.3, connection))
                connection.settimeout(0.5)
                echo(connection)
                pauses.answered()
            while ends and ends[0][0] < time.monotonic():
                ends.pop(0)[1].close()
            time.sleep(0.05)


old, new, result = Pauses(), Pauses(), dict[str, object]()
threads = [threading.Thread(target=stay_connected, args=(old, result)), threading.Thread(target=connect_anew, args=(new,))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({**result, "old": round(old.longest, 2), "new": round(new.longest, 2)}))

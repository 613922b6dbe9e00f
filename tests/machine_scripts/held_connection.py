"""Runs on a peer: holds a TCP connection to an echo server, and prints the monotonic time of each echo.

held_connection.py ADDRESS PORT again|never. `never`: it waits on the one connection, whatever happens, and makes no other.
"""

from __future__ import annotations

import socket
import sys
import time


def echo(connection: socket.socket) -> None:
    while True:
        connection.sendall(b".")
        if not connection.recv(1):
            raise OSError("it was closed")
        print(f"{time.monotonic():.2f}", flush=True)
        time.sleep(0.1)


def main(address: str, port: str, again: str) -> None:
    while True:
        try:
            with socket.create_connection((address, int(port)), timeout=1) as connection:
                connection.settimeout(1 if again == "again" else None)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                echo(connection)
        except OSError:
            if again != "again":
                raise
            time.sleep(0.1)


main(*sys.argv[1:])

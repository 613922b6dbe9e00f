"""Runs beside guests_behind_rules.py: who reaches what the host serves to guests on the gateway's address."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from nqrust.agent.network.relay_port import RelayPort
from nqrust.host.local import LocalHost

_SERVE = """
import os, socket, sys, threading
os.setuid(int(sys.argv[1]))
address, ports = sys.argv[2], [int(port) for port in sys.argv[3:]]
def answer(listener):
    while True:
        peer, _ = listener.accept()
        peer.sendall(b"tcp")
        peer.close()
for port in ports:
    threading.Thread(target=answer, args=(socket.create_server((address, port), backlog=64),), daemon=True).start()
print("ready", flush=True)
if 53 in ports:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        while True:
            server.sendto(b"udp", server.recvfrom(100)[1])
threading.Event().wait()
"""
_ASK = """
import socket, sys
address, *wanted = sys.argv[1:]
heard = []
for one in wanted:
    kind, port = one.split(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as asking:
        asking.settimeout(1.5)
        try:
            asking.connect((address, int(port)))
            asking.send(b"query")
            heard += [one] if asking.recv(100) == kind.encode() else []
        except OSError:
            pass
print(" ".join(heard))
"""
_ALL = ("udp:53", "tcp:53", "tcp:19091")
GATEWAY = "10.0.0.1"


def serve(user: int, address: str, *ports: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", _SERVE, str(user), address, *map(str, ports)]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    return server


def seen(inside: Callable[..., str], sh: Callable[[str], str], ending: list[Callable[[], Any]]) -> dict[str, list[str]]:
    sh(f"ip -n web route replace {GATEWAY}/32 via 198.51.100.2")
    ending.append(serve(0, GATEWAY, 53, 19091).kill)

    def heard() -> dict[str, list[str]]:
        argv = [sys.executable, "-c", _ASK, GATEWAY, *_ALL]
        own = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        found = {name: inside(name, _ASK, GATEWAY, *_ALL) for name in ("guest0", "web")}
        return {name: answers.split() for name, answers in {**found, "host": own}.items()}

    said = heard()
    sh("iptables -F NQR-INPUT")
    return {**said, **{f"{name} without the rules": answers for name, answers in heard().items()}}


def seen_of_a_user(inside: Callable[..., str], sh: Callable[[str], str]) -> dict[str, object]:
    """Who answers a guest at the port of the relay: a user of the host, then root, and the user on a host without the rule."""
    guarded = RelayPort(LocalHost(), "fcbr0", 19091)

    def heard_from(user: int) -> str:
        server = serve(user, "0.0.0.0", 19091)
        try:
            return inside("guest0", _ASK, GATEWAY, "tcp:19091")
        finally:
            server.kill()
            server.wait()

    said: dict[str, object] = {"without the rule": heard_from(54_321)}
    said["drawn"], said["lacking"] = [guarded.sync(), guarded.sync()], guarded.lacking
    said |= {"a user": heard_from(54_321), "root": heard_from(0)}
    waiting = inside("guest0", "print(open('/proc/net/tcp').read())")
    said["of the guest's ended connections wait"] = sum(" 09 " in line for line in waiting.splitlines())  # TCP_LAST_ACK
    sh("iptables -F OUTPUT; iptables -F NQR-RELAY; iptables -X NQR-RELAY")
    return said | {"put back": [guarded.sync(), guarded.sync()], "a user then": heard_from(54_321)}

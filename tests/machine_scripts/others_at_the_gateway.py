"""Runs beside guests_behind_rules.py: who reaches what the host serves to guests on the gateway's address."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nqrust.agent.api.listeners import bind_relay
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
_CALL_BACK = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
own, first, last = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def of_mine(address):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind((address, 19091))
    return one
listener = of_mine("0.0.0.0")
listener.listen(0)
fills = []
for _ in range(4):  # its queue is full, so it answers nobody, and who calls waits
    fills.append(socket.socket())
    fills[-1].setblocking(False)
    fills[-1].connect_ex(("127.0.0.1", 19091))
print("ready", flush=True)
sys.stdin.readline()
for port in range(first, last):
    one = of_mine(own)
    one.settimeout(0.02)
    try:
        one.connect((sys.argv[5], port))
    except OSError:
        one.close()
        continue
    one.sendall(b"tcp")
    print(one.recv(100).decode(), flush=True)
    break
"""
_ALL = ("udp:53", "tcp:53", "tcp:19091")
GATEWAY = "10.0.0.1"
_USER = 54_321


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

    said: dict[str, object] = {"without the rule": heard_from(_USER), "heard without the rule": _called_back(sh)}
    said["drawn"], said["lacking"] = [guarded.sync(), guarded.sync()], guarded.lacking
    said |= {"a user": heard_from(_USER), "root": heard_from(0), "a user who calls": _called_back(sh)}
    waiting = inside("guest0", "print(open('/proc/net/tcp').read())")
    said["of the guest's ended connections wait"] = sum(" 09 " in line for line in waiting.splitlines())  # TCP_LAST_ACK
    sh("sysctl -qw net.ipv4.tcp_syncookies=2")  # as under a flood: the kernel answers before it makes a socket
    said |= {"a user with cookies": heard_from(_USER), "the relay with cookies": _relayed(inside)}
    sh("iptables -F OUTPUT; iptables -F NQR-RELAY; iptables -X NQR-RELAY")
    return said | {"put back": [guarded.sync(), guarded.sync()], "a user then": heard_from(_USER)}


def _called_back(sh: Callable[[str], str]) -> str:
    """What a user of the host hears from a guest that waits for an answer, by connecting from the port to each of the guest's ports.
    Both ends may begin a connection; RFC 9293, 3.5."""
    sh('ip netns exec guest0 sysctl -qw net.ipv4.ip_local_port_range="40000 40100"')  # all 28,000 take 6 s
    argv = [sys.executable, "-c", _CALL_BACK, *map(str, (_USER, GATEWAY, 40_000, 40_101, "10.0.0.20"))]
    guest = ["ip", "netns", "exec", "guest0", sys.executable, "-c", _ASK.replace("1.5", "20"), GATEWAY, "tcp:19091"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None and user.stdin is not None and user.stdout.readline() == b"ready\n"
        with subprocess.Popen(guest, stdout=subprocess.PIPE, text=True) as asking:
            time.sleep(0.5)
            user.stdin.write(b"\n")
            user.stdin.flush()
            heard = user.stdout.readline().strip()
            user.kill()
            asking.kill()
    return heard.decode()


def _relayed(inside: Callable[..., str]) -> str:
    """Whether the agent's own listener answers the guest."""
    with bind_relay(GATEWAY, 19091) as listener, ThreadPoolExecutor() as guest:
        heard = guest.submit(inside, "guest0", _ASK, GATEWAY, "tcp:19091")
        listener.settimeout(3)
        with contextlib.suppress(TimeoutError):
            listener.accept()[0].sendall(b"tcp")
        return heard.result()

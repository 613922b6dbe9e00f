"""Runs beside guests_behind_rules.py: who still gets names while many guests ask for those of a server that does not answer.

dnsmasq has nqr's own configuration. The name server beyond answers for names that begin with `good` alone. guest0 asks under the
addresses of many guests, guest1 under its own.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nqrust.contract.paths import DHCP_STATE_DIR
from nqrust.installer.resources.dnsmasq import dnsmasq_conf
from nqrust.installer.settings.model import NetworkSettings

GUESTS, SECONDS, CALLERS = 40, 16, 12
_FOLDER = "/run/dns"
_ANSWERS = """
import socket, struct, threading
def answer(asked):
    question = asked[12 : asked.index(b"\\0", 12) + 5]
    record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4" + bytes([192, 0, 2, 1])
    return asked[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + question + record
def over_tcp():  # a query that came over TCP goes on over TCP
    while True:
        caller = server.accept()[0]
        said = answer(caller.recv(514)[2:])
        caller.sendall(struct.pack("!H", len(said)) + said)
with socket.create_server(("198.51.100.1", 53)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("198.51.100.1", 53))
    threading.Thread(target=over_tcp, daemon=True).start()
    print("ready", flush=True)
    while True:
        asked, sender = one.recvfrom(512)
        if asked[13:17] == b"good":
            one.sendto(answer(asked), sender)
"""
QUERY = """
import socket, struct, sys, time
def query(name):
    labels = b"".join(bytes([len(one)]) + one for one in name.encode().split(b"."))
    return struct.pack("!HHHHHH", hash(name) & 0xFFFF, 0x100, 1, 0, 0, 0) + labels + b"\\0\\0\\1\\0\\1"
def answered(sock, name):
    try: return sock.recv(512)[3] & 15 == 0
    except OSError: return False
"""
_ASKS = (
    QUERY
    + """
got = 0
for number in range(8):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(1.5)
        name = f"good{time.monotonic_ns()}.example"
        one.sendto(query(name), ("10.0.0.1", 53))
        got += answered(one, name)
    time.sleep(0.2)
print(got)
"""
)
_FLOODS = (
    QUERY
    + """
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
guests, seconds = int(sys.argv[1]), float(sys.argv[2])
began, number = time.monotonic(), 0
while (now := time.monotonic() - began) < seconds:
    while number < 250 * guests + now * 60 * guests:
        said = query(f"n{number}.dead.example")
        source = bytes([10, 0, 0, 100 + number % guests])
        udp = struct.pack("!HHHH", 1024 + number % 60000, 53, 8 + len(said), 0) + said
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, bytes([10, 0, 0, 1]))
        try: raw.sendto(head + udp, ("10.0.0.1", 0))
        except OSError: pass
        number += 1
        if number % 50 == 0: time.sleep(0.002)
    time.sleep(0.005)
"""
)
_CALLS = """
import socket, sys, time
held = []
for number in range(int(sys.argv[1])):
    for _ in range(2):
        held.append(socket.socket())
        held[-1].bind((f"10.0.0.{100 + number}", 0))
        held[-1].setblocking(False)
        held[-1].connect_ex(("10.0.0.1", 53))
print("ready", flush=True)
time.sleep(60)
"""
_CALLS_ONCE = (
    QUERY
    + """
with socket.socket() as one:
    one.settimeout(3)
    try:
        one.connect(("10.0.0.1", 53))
        said = query(f"good{time.monotonic_ns()}.example")
        one.sendall(struct.pack("!H", len(said)) + said)
        print(len(one.recv(512)) > 2)
    except OSError: print(False)
"""
)


def serve(ending: list[Callable[[], Any]]) -> None:
    Path(_FOLDER, "hosts.d").mkdir(parents=True)
    text = dnsmasq_conf(NetworkSettings(), dns=True).replace(DHCP_STATE_DIR, _FOLDER)
    Path(_FOLDER, "conf").write_text(f"{text}no-resolv\nserver=198.51.100.1\nuser=root\n")
    names = subprocess.Popen(["dnsmasq", f"--conf-file={_FOLDER}/conf"], stderr=subprocess.PIPE)
    ending.append(names.kill)
    assert names.stderr is not None and b"started" in names.stderr.readline(), "it listens then"
    answers = started("web", _ANSWERS)
    ending.append(answers.kill)


def started(namespace: str, code: str, *arguments: object) -> subprocess.Popen[bytes]:
    argv = ["ip", "netns", "exec", namespace, sys.executable, "-c", code, *map(str, arguments)]
    made = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert made.stdout is not None and made.stdout.readline() == b"ready\n"
    return made


def seen(sh: Callable[..., str], inside: Callable[..., str], ending: list[Callable[[], Any]]) -> dict[str, Any]:
    serve(ending)

    def got(after: float) -> int:
        """How many of 8 names guest1 gets while the others ask, `after` seconds from their first question."""
        flood = threading.Thread(target=inside, args=("guest0", _FLOODS, GUESTS, SECONDS))
        flood.start()
        time.sleep(after)
        found = int(inside("guest1", _ASKS))
        flood.join()
        return found

    def calls() -> bool:
        """Whether guest1 gets an answer over TCP while the others hold connections."""
        for number in range(CALLERS):
            sh(f"ip -n guest0 addr replace 10.0.0.{100 + number}/24 dev eth0")
        with started("guest0", _CALLS, CALLERS) as others:
            time.sleep(1.5)  # a connection that was refused is tried again after a second
            found = inside("guest1", _CALLS_ONCE) == "True"
            others.kill()
        return found

    said = {"alone": int(inside("guest1", _ASKS)), "over TCP": calls(), "beside many": got(SECONDS / 2)}
    for rule in sh("iptables -S NQR-INPUT").splitlines():
        if "nqr-dns-few" in rule or "--connlimit-mask 0" in rule:
            sh(f"iptables {rule.replace('-A', '-D', 1)}")
    time.sleep(11)  # until dnsmasq waits for no answer
    # Early: the first questions hold all places for ten seconds. When they end, guest1 may be the one that gets the next.
    return said | {"without the rule": got(5), "over TCP without it": calls()}

"""Runs in the namespace of a guest, as Python code: what guests_behind_rules.py lets them send and hear."""

from __future__ import annotations

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5).close()
    print("yes")
except OSError:
    print("no")
"""
LISTEN = """
import socket, sys
listeners = []
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    one = socket.socket(family)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, 8080))
    one.listen(64)
    listeners.append(one)
print("ready", flush=True)
import select
while True:
    for one in select.select(listeners, [], [])[0]:
        one.accept()[0].close()
"""
SEND = """
import socket, sys
address, port, number, ports = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(ports)]
for count in range(number):
    sender = senders[count % ports]
    try:
        sender.sendto(b"query", (address, port if ports == 1 else port + count // ports))
    except OSError:
        pass
"""
ASK = """
import socket, sys, time
got = 0
for _ in range(20):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(1)
        one.sendto(b"query", (sys.argv[1], 53))
        try:
            got += bool(one.recv(100))
        except OSError:
            pass
    time.sleep(0.05)
print(got)
"""
STRANGERS = """
import random, socket, struct, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
target = socket.inet_aton(sys.argv[1])
for number in range(int(sys.argv[2])):
    source = struct.pack("!I", 0x0B000000 + number)
    udp = struct.pack("!HHHH", 1024 + number % 60000, 53, 13, 0) + b"query"
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, target)
    try:
        raw.sendto(head + udp, (sys.argv[1], 0))
    except OSError:
        pass
"""
HEARS = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("", 161))
    one.settimeout(3)
    print("ready", flush=True)
    try: print(one.recv(100).decode())
    except OSError: print("nothing")
"""

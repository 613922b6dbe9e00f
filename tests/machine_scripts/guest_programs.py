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
BROADCAST = """
import errno, socket, sys
number, broadcast = int(sys.argv[1]), sys.argv[2]
device = socket.if_nametoindex("eth0")
for count in range(number):
    for family, address in ((socket.AF_INET, (broadcast, 999)), (socket.AF_INET6, ("ff02::1", 999, 0, device))):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.bind(("", 10_000 + count))
            sender.sendto(b"to all", address)
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
DHCP = """
import socket, struct, sys, time
client, kind, address, number, answers = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
link.bind(("eth0", 0x0800))
own, client = link.getsockname()[4], bytes.fromhex(client.replace(":", ""))
wanted = socket.inet_aton(address)
from_own = wanted if kind == 3 else bytes(4)
head = struct.pack("!BBBBIHH4s4s4s4s16s64s128s", 1, 1, 6, 0, 77, 0, 0x8000, from_own, b"", b"", b"", client, b"", b"")
options = bytes((53, 1, kind)) + (bytes((54, 4, 10, 0, 0, 1, 50, 4)) + wanted if kind == 4 else b"")
said = head + b"\\x63\\x82\\x53\\x63" + options + b"\\xff"
datagram = struct.pack("!HHHH", 68, 67, 8 + len(said), 0) + said
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0, from_own, b"\\xff" * 4)
total = sum(struct.unpack("!10H", ip))
total = (total >> 16) + (total & 0xFFFF)
ip = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
for _ in range(number):
    try: link.send(b"\\xff" * 6 + own + b"\\x08\\x00" + ip + datagram)
    except OSError: pass
end, heard = time.monotonic() + answers, "nothing"
while heard == "nothing" and (left := end - time.monotonic()) > 0:
    link.settimeout(left)
    try: frame = link.recv(2000)
    except OSError: continue
    if frame[23] == 17 and frame[36:38] == b"\\x00\\x44" and frame[70:76] == client:
        heard = socket.inet_ntoa(frame[58:62])
print(heard)
"""
ARP = """
import random, socket, struct
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0x0806))
mac = raw.getsockname()[4]
for number in range(200):
    source = struct.pack("!I", 0x0B000000 + number)
    asks = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, source, bytes(6), bytes([10, 0, 0, 1]))
    raw.send(bytes([255] * 6) + mac + b"\\x08\\x06" + asks)
"""

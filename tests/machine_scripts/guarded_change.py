"""Runs on a test host, with the sources of nqr on PYTHONPATH: moves host0 into a bridge under guard.

guarded_change.py make VARIANT WINDOW ADDRESS GATEWAY | confirm | status. `make` prints a line for each thing that it
waits for, then `proven` or an error code.

Variants: `good`; `gateway`: the configuration and the change name a gateway that nobody has; `lockout`: the bridge gets no address.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.supervisor.registry import alarms_of
from nqrust.installer.verbs.network.guard.asking import confirm, status
from nqrust.installer.verbs.network.guard.change import NetworkChange, file_change
from nqrust.installer.verbs.network.guard.guarding import guarded
from nqrust.installer.verbs.network.guard.live import live_state

LINK, BRIDGE = "host0", "fcbr0"
FOLDER = "/etc/systemd/network"
PLAIN = "/etc/test-network"
HOST = LocalHost()
SYSTEMD = os.path.exists("/run/systemd/system")
RESTART = ("systemctl", "restart", "systemd-networkd")


def change(variant: str, address: str, gateway: str) -> NetworkChange:
    """`address` without its length; `gateway`: the true one."""
    wanted = gateway.rpartition(".")[0] + ".250" if variant == "gateway" else gateway
    mac = HOST.read_text(f"/sys/class/net/{LINK}/address").strip()
    inner = "" if variant == "lockout" else f"Address={address}/24\nGateway={wanted}\n"
    if SYSTEMD:
        texts = {
            f"{FOLDER}/10-{LINK}.network": f"[Match]\nName={LINK}\n[Network]\nBridge={BRIDGE}\n",
            f"{FOLDER}/10-{BRIDGE}.netdev": f"[NetDev]\nName={BRIDGE}\nKind=bridge\nMACAddress={mac}\n",
            f"{FOLDER}/10-{BRIDGE}.network": f"[Match]\nName={BRIDGE}\n[Network]\n{inner}",
        }
        commands = (RESTART,)
    else:
        addressing = f"ip address replace {address}/24 dev {BRIDGE}\nip route replace default via {wanted}\n"
        texts = {
            PLAIN: f"ip link add {BRIDGE} address {mac} type bridge\nip link set {LINK} master {BRIDGE}\nip address flush dev {LINK}\n"
            f"ip link set {BRIDGE} up\n{'' if variant == 'lockout' else addressing}"
        }
        commands = (("sh", PLAIN),)
    # systemd-networkd leaves the old address on a NIC that becomes a port.
    load = (*commands, ("ip", "address", "flush", "dev", LINK))
    files = tuple(file_change(HOST, path, text.encode()) for path, text in texts.items())
    return NetworkChange(LINK, BRIDGE, files, load, commands if SYSTEMD else (), live_state(HOST, LINK, LINK), (wanted,))


def say(text: str) -> None:
    print(text, flush=True)


def main(verb: str, *words: str) -> None:
    if verb == "status":
        print(json.dumps(asdict(status(HOST))))
        return
    if verb == "confirm":
        confirm(HOST, say)
        say("confirmed")
        return
    variant, window, address, gateway = words
    say(f"pid {os.getpid()}")
    seen = guarded(
        HOST, change(variant, address, gateway), alarms_of("systemd" if SYSTEMD else "none"), window=int(window), tell=say
    )
    say(f"proven {seen.peer or 'confirmed'}")


try:
    main(*sys.argv[1:])
except NqrError as error:
    say(f"{error.code} {error.what}")
    sys.exit(5)

"""Runs on the installed host, with its own Python: times commands of nqr, from nothing to their end.

    commands_on_host.py ROUNDS      prints one JSON object: seconds of each run, by command

`nothing`: the interpreter alone. `get`: an interpreter that asks the manager for its VMs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

GET = """
import http.client
token = open("/etc/nqrust-microvm/cli-token").read().strip()
connection = http.client.HTTPConnection("127.0.0.1", 18080)
connection.request("GET", "/v1/vms", headers={"Authorization": f"Bearer {token}"})
answer = connection.getresponse()
assert answer.status == 200, answer.status
answer.read()
"""
COMMANDS = {
    "nothing": [sys.executable, "-I", "-c", "pass"],
    "get": [sys.executable, "-I", "-c", GET],
    "nqr --help": ["nqr", "--help"],
    "nqr vm ls": ["nqr", "vm", "ls"],
    "nqr status": ["nqr", "status"],
}


def main(rounds: int) -> None:
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, argv in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            found[name].append(time.perf_counter() - began)
    print(json.dumps({name: seconds[1:] for name, seconds in found.items()}))  # the first run fills caches


main(int(sys.argv[1]))

"""Runs in a network namespace of its own: the agent follows the kernel's notices and puts rules back that others take out.

Run inside: `unshare --net --mount python followed_rules.py NETWORK_SCRIPT`. Prints the seconds until the rules stood again, by
command, as JSON; -1 for rules that did not come back within 5 seconds.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import structlog

from nqrust.agent.keep_up import KeepUp
from nqrust.agent.network.rules import NetworkRules
from nqrust.host.local import LocalHost

SCRIPT = sys.argv[1]
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
COMMANDS = (
    "nft flush ruleset",
    "nft delete table ip nat",
    "iptables -F",
    "iptables -D FORWARD -m comment --comment nqrust -j NQR-FORWARD",
    "iptables -F NQR-INPUT",
    "ip6tables -F INPUT",
)


class Verbs:
    async def run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)


def stands() -> bool:
    return subprocess.run([SCRIPT, "check"], check=False).returncode == 0


async def seconds(command: str) -> float:
    await asyncio.to_thread(subprocess.run, command, shell=True, check=True)
    started = time.monotonic()
    while not await asyncio.to_thread(stands):
        if time.monotonic() - started > 5:
            return -1.0
    return round(time.monotonic() - started, 2)


async def main() -> dict[str, float]:
    service = MagicMock()
    service.forwards.sync.return_value, service.taps.pin.return_value = False, {}
    rules = NetworkRules(LocalHost(), SCRIPT)
    keep = KeepUp(service, Verbs(), rules, MagicMock(), MagicMock(lacking=""), lambda: None)  # type: ignore[arg-type]
    follower = asyncio.create_task(keep.follow_rules())
    await asyncio.sleep(0.1)
    found = {}
    for command in COMMANDS:
        found[command] = await seconds(command)
        await asyncio.sleep(1.5)
    follower.cancel()
    return found


subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)  # of this network namespace
subprocess.run([SCRIPT, "up"], check=True)
print(json.dumps(asyncio.run(main())))

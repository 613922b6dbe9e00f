"""Policy rules, read from a kernel and given back to it, in a namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from shlex import join

import pytest

from nqrust.host.facts.policy_rules import parse_rules

RULES = (
    "-4 rule add not fwmark 0xca6c table 51820",
    "-4 rule add table main suppress_prefixlength 0",
    "-4 rule add fwmark 0x80000/0xff0000 priority 5250 unreachable",
    "-4 rule add uidrange 1000-1001 ipproto tcp sport 1-1024 dport 25 table 9",
    "-4 rule add iif eth7 oif lo from 10.1.0.0/16 to 192.0.2.1 table 9",
    "-4 rule add tos 0x10 tun_id 5 table 9",
    "-4 rule add priority 40000 goto 50000",
    "-6 rule add l3mdev priority 900",
    "-6 rule add from 2001:db8::/32 blackhole",
)
SHOW = "ip -json -4 rule show; echo; ip -json -6 rule show; echo"


def shown(*lines: str) -> list[list[dict[str, object]]]:
    """Run the lines in a new namespace, and return its rules of IPv4 and IPv6."""
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("needs root, unshare and ip")
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", "\n".join([*lines, SHOW])], capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line]


def test_kernel_takes_every_rule_back_as_it_was() -> None:
    before = shown(*(f"ip {rule}" for rule in RULES))
    words = [rule for family, rules in zip(("-4", "-6"), before, strict=True) for rule in parse_rules(rules, family)]
    assert len(words) == len(RULES)
    again = [f"ip {family} rule add {join(rule)}" for family, *rule in words]
    assert shown(*again) == before
    # The guard adds rules that are still there, too.
    assert shown(*again, *(f"{line} 2>/dev/null || :" for line in again)) == before


def test_rule_of_a_network_manager_is_there_once() -> None:
    """The kernel takes a second one with another protocol."""
    before = shown("ip rule add from 172.20.9.9 table 100 priority 500 protocol static")
    (words,) = parse_rules(before[0], "-4")
    assert (
        shown(
            "ip rule add from 172.20.9.9 table 100 priority 500 protocol static",
            f"ip -4 rule add {join(words[1:])} 2>/dev/null || :",
        )
        == before
    )

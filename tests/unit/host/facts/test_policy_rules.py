"""Policy rules from captured output of ip(8)."""

from __future__ import annotations

import json

import pytest

from nqrust.host.facts.policy_rules import parse_rules

ROWS = {
    "from an address": ('{"priority":500,"src":"172.20.9.9","table":"100"}', "priority 500 from 172.20.9.9 table 100"),
    "between networks": (
        '{"priority":501,"src":"10.0.0.0","srclen":8,"dst":"10.9.0.0","dstlen":16,"table":"main"}',
        "priority 501 from 10.0.0.0/8 to 10.9.0.0/16 table main",
    ),
    "a tunnel for all that is not its own": (
        '{"priority":32765,"not":null,"src":"all","fwmark":"0xca6c","table":"51820"}',
        "priority 32765 not fwmark 0xca6c table 51820",
    ),
    "no default route of the main table": (
        '{"priority":32764,"src":"all","table":"main","suppress_prefixlen":0}',
        "priority 32764 table main suppress_prefixlength 0",
    ),
    "a mark with its mask": (
        '{"priority":5250,"src":"all","fwmark":"0x80000","fwmask":"0xff0000","action":"unreachable"}',
        "priority 5250 fwmark 0x80000/0xff0000 unreachable",
    ),
    "users and ports": (
        '{"priority":7,"src":"all","uid_start":1000,"uid_end":1001,"ipproto":"tcp","sport_start":1,"sport_end":9,"dport":25,"table":"9"}',
        "priority 7 uidrange 1000-1001 sport 1-9 dport 25 ipproto tcp table 9",
    ),
    "a card that is away": (
        '{"priority":8,"src":"all","iif":"eth1","iif_detached":null,"oif":"lo","table":"10","protocol":"static"}',
        "priority 8 iif eth1 oif lo protocol static table 10",
    ),
    "a jump": ('{"priority":9,"src":"all","goto":50000,"unresolved":null}', "priority 9 goto 50000"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rule_keeps_all_of_its_parts(name: str) -> None:
    said, words = ROWS[name]
    assert [" ".join(rule) for rule in parse_rules([json.loads(said)], "-4")] == [f"-4 {words}"]


@pytest.mark.parametrize("part", ['"masquerade":null', '"flow_from":"3"', '"some-day":1', '"not":1'])
def test_rule_with_an_unknown_part_is_left_out(part: str) -> None:
    """Without it, the rule would lead other packets to that table."""
    assert parse_rules([json.loads(f'{{"priority":9,"src":"all","table":"9",{part}}}')], "-6") == ()


def test_rules_of_the_kernel_are_left_out() -> None:
    said = '[{"priority":0,"table":"local"},{"priority":32766,"table":"main"},{"priority":1000,"src":"all","l3mdev":null}]'
    assert parse_rules(json.loads(said), "-4") == ()

"""Policy rules as `ip -json rule show` names them, in words for `ip rule add` (ip-rule(8))."""

from __future__ import annotations

from typing import Any

_OF_KERNEL = ({"priority": 0}, {"priority": 32766}, {"priority": 32767}, {"priority": 1000, "l3mdev": None})
"""Parts of the kernel's own rules. The last one comes with the first VRF."""
_VALUES = {
    "tos": "tos",
    "dsfield": "dsfield",
    "iif": "iif",
    "oif": "oif",
    "ipproto": "ipproto",
    "tun_id": "tun_id",
    "protocol": "protocol",
    "table": "table",
    "suppress_prefixlen": "suppress_prefixlength",
    "suppress_ifgroup": "suppress_ifgroup",
    "goto": "goto",
}
_FLAGS = {"not": "not", "l3mdev": "l3mdev", "nop": "nop"}
_RANGES = (("uid_start", "uid_end", "uidrange"), ("sport_start", "sport_end", "sport"), ("dport_start", "dport_end", "dport"))
_STATES = {"iif_detached", "oif_detached", "unresolved"}
"""They tell about the moment, and are no part of the rule."""


def parse_rules(rules: list[dict[str, Any]], family: str) -> tuple[tuple[str, ...], ...]:
    """Return the words of each rule, led by `family`, without the kernel's own rules. A rule with a part that is not known here
    is left out: without this part it would match other packets."""
    found = (_words(one) for one in rules if not any(part.items() <= one.items() for part in _OF_KERNEL))
    return tuple((family, *words) for words in found if words)


def _words(rule: dict[str, Any]) -> list[str]:
    """Return the words of one rule, none if one of its parts is not known."""
    left = {name: value for name, value in rule.items() if name not in _STATES}
    words = ["priority", str(left.pop("priority", 0))]
    words += [word for name, word in _FLAGS.items() if left.get(name, "") is None]
    left = {name: value for name, value in left.items() if name not in _FLAGS or value is not None}
    for name, word in (("src", "from"), ("dst", "to")):
        address, length = left.pop(name, "all"), left.pop(f"{name}len", None)
        words += [word, str(address) if length is None else f"{address}/{length}"] if address != "all" else []
    if "fwmark" in left:
        mark, mask = left.pop("fwmark"), left.pop("fwmask", None)
        words += ["fwmark", str(mark) if mask is None else f"{mark}/{mask}"]
    for first, last, word in _RANGES:
        if first in left and last in left:
            words += [word, f"{left.pop(first)}-{left.pop(last)}"]
    for port in ("sport", "dport"):
        words += [port, str(left.pop(port))] if port in left else []
    for name, word in _VALUES.items():
        words += [word, str(left.pop(name))] if name in left else []
    words += [str(left.pop("action"))] if "action" in left else []
    return [] if left else words

"""The differences between two fingerprints, and their text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nqrust.installer.fingerprint import volatile
from nqrust.installer.fingerprint.model import Difference, Fingerprint

_FILE_PARTS = ("kind", "mode", "owner", "group", "content", "attributes")
TITLES = {
    "files": "Files",
    "folders": "Folders",
    "users": "Users",
    "groups": "Groups",
    "packages": "Packages",
    "unit_files": "Unit files",
    "units": "Units",
    "links": "Network links",
    "routes": "Routes",
    "firewall": "Firewall rules",
    "sysctls": "Kernel parameters",
    "modules": "Kernel modules",
    "mounts": "Mounts",
    "postgres": "PostgreSQL",
    "ports": "Listening ports",
    "processes": "Processes of NQRust",
}


def compare(before: Fingerprint, after: Fingerprint) -> list[Difference]:
    """Return the differences, sorted by section and key. Paths that this version considers volatile are also ignored in older
    fingerprints."""
    paths = volatile.paths()
    ignored = {
        "files": paths,
        "folders": paths,
        "units": volatile.units(),
        "sysctls": volatile.compiled(volatile.SYSCTLS),
    }
    found = []
    for section in sorted({*before.sections, *after.sections}, key=_order):
        if section not in before.sections or section not in after.sections:
            continue  # an older version took one of the two and did not look there
        old, new = before.sections[section], after.sections[section]
        pattern = ignored.get(section)
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key) and not (pattern and pattern.match(key)):
                found.append(Difference(section, key, old.get(key), new.get(key)))
    return found


def render(differences: Sequence[Difference], *, limit: int = 0) -> str:
    """Return text for people: a heading for each section; `+` added, `-` gone, `~` changed. `limit`: maximum lines per
    section."""
    if not differences:
        return "No difference.\n"
    lines: list[str] = []
    for section in dict.fromkeys(one.section for one in differences):
        of_section = [one for one in differences if one.section == section]
        lines.append(f"{TITLES.get(section, section)}: {_count(of_section)}")
        shown = of_section[:limit] if limit else of_section
        lines += [f"  {_line(one)}" for one in shown]
        if len(shown) < len(of_section):
            lines.append(f"  … and {len(of_section) - len(shown)} more")
    return "\n".join(lines) + "\n"


def _line(one: Difference) -> str:
    if one.sign == "~":
        return f"~ {one.key}: {_change(one)}"
    value = one.after if one.before is None else one.before
    return f"{one.sign} {one.key}{_value(one.section, value)}"


def _change(one: Difference) -> str:
    before, after = one.before, one.after
    if one.section == "files" and isinstance(before, list) and isinstance(after, list):
        parts = []
        for index, name in enumerate(_FILE_PARTS):
            old, new = _at(before, index), _at(after, index)
            if old != new:
                digests = name == "content" and len(str(old)) == len(str(new)) == 64
                parts.append("content differs" if digests else f"{name} {_arrow(old, new)}")
        return ", ".join(parts)
    if isinstance(before, dict) and isinstance(after, dict):
        return ", ".join(
            f"{name} {_arrow(before.get(name), after.get(name))}"
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        )
    if one.section == "firewall" and isinstance(before, list) and isinstance(after, list):
        gone = [f"- {rule}" for rule in before if rule not in after]
        new = [f"+ {rule}" for rule in after if rule not in before]
        return "; ".join(gone + new) or "rules in another order"
    return _arrow(before, after)


def _arrow(before: Any, after: Any) -> str:
    return f"{_short(before) or 'nothing'} → {_short(after) or 'nothing'}"


def _value(section: str, value: Any) -> str:
    if section == "files" and isinstance(value, list):
        target = f" → {_at(value, 4)}" if _at(value, 0) == "symlink" else ""
        return f" ({_at(value, 0)} {_at(value, 1)} {_at(value, 2)}:{_at(value, 3)}){target}"
    text = _short(value)
    return f" ({text})" if text else ""


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(filter(None, map(_short, value)))
    if isinstance(value, dict):
        return " ".join(f"{name}={_short(one)}" for name, one in value.items() if one not in ("", [], None))
    text = str(value)
    return text if len(text) <= 160 else text[:157] + "…"


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else ""


def _count(differences: Sequence[Difference]) -> str:
    signs = [one.sign for one in differences]
    named = ((signs.count("+"), "added"), (signs.count("-"), "gone"), (signs.count("~"), "changed"))
    return ", ".join(f"{number} {word}" for number, word in named if number)


def _order(section: str) -> tuple[int, str]:
    known = list(TITLES)
    return (known.index(section) if section in known else len(known)), section

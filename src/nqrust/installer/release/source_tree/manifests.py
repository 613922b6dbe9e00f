"""Tables and strings of Cargo's files, without a parser of TOML: Python has one only from 3.11 on. See the Cargo Book."""

from __future__ import annotations

import re


def table(text: str, name: str) -> str | None:
    """Return the lines of a table, or None if the file has none of that name."""
    found = re.search(rf"(?ms)^\[{re.escape(name)}\]\s*$(.*?)(?=^\[|\Z)", text)
    return found[1] if found else None


def string(lines: str, key: str) -> str:
    """Return the string of a key in the lines of a table, or ""."""
    found = re.search(rf"""(?m)^{re.escape(key)}\s*=\s*["']([^"']*)["']""", lines)
    return found[1] if found else ""


def strings(lines: str, key: str) -> tuple[str, ...]:
    """Return the strings of a list in the lines of a table."""
    found = re.search(rf"(?ms)^{re.escape(key)}\s*=\s*\[(.*?)\]", lines)
    return tuple(re.findall(r"""["']([^"']+)["']""", re.sub(r"(?m)#.*$", "", found[1]))) if found else ()

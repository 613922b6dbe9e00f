"""A host's state as data, and the readable difference between two."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.hosts.machine.result import Result
from tests.places import SCRIPTS


@dataclass(frozen=True)
class Fingerprint:
    """Category (files, users, packages, units, links, ...) -> thing -> its state as text."""

    data: dict[str, dict[str, str]]

    def diff(self, later: Fingerprint, ignore: Callable[[str, str], bool] = lambda category, thing: False) -> list[str]:
        """What is different in `later`, a line each: `+` came, `-` went, `~` changed. Equal hosts give an empty list."""
        lines = []
        for category in sorted({*self.data, *later.data}):
            before, after = self.data.get(category, {}), later.data.get(category, {})
            for thing in sorted({*before, *after}):
                if before.get(thing) == after.get(thing) or ignore(category, thing):
                    continue
                if thing not in before:
                    lines.append(f"+ {category} {thing} {after[thing]}".rstrip())
                elif thing not in after:
                    lines.append(f"- {category} {thing} {before[thing]}".rstrip())
                else:
                    lines.append(f"~ {category} {thing}: {before[thing]} => {after[thing]}")
        return lines


def take(run: Callable[..., Result], *, own: bool) -> Fingerprint:
    """Take a fingerprint with the tests' own script, or with the product's command."""
    if own:
        script = (SCRIPTS / "fingerprint_script.py").read_bytes()
        return Fingerprint(json.loads(run(["python3", "-"], input=script, timeout=300).stdout))
    data = json.loads(run(["nqr", "fingerprint", "--output", "json"], timeout=300).stdout)
    return Fingerprint({str(key): value if isinstance(value, dict) else {"": str(value)} for key, value in data.items()})

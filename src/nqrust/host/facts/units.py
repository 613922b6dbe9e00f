"""Units of systemd: systemctl(1) show."""

from __future__ import annotations

from nqrust.host.errors import CommandFailed, ProgramMissing
from nqrust.host.facts.model import Unit
from nqrust.host.port import Host, command

_PROPERTIES = "Id,Names,LoadState,ActiveState,UnitFileState"


def probe(host: Host, name: str) -> Unit:
    """Return one unit; not-found and inactive without systemd."""
    return probe_many(host, (name,))[0]


def probe_many(host: Host, names: tuple[str, ...]) -> tuple[Unit, ...]:
    """Return units in the given order, with one call of systemctl."""
    if not names:
        return ()
    missing = tuple(Unit(name, "not-found", "inactive", "") for name in names)
    try:
        done = host.run(command("systemctl", "show", f"--property={_PROPERTIES}", "--", *names, timeout=30))
    except (CommandFailed, ProgramMissing):
        return missing
    found = parse_show(done.stdout)
    # systemctl answers in the given order, one block each. An alias answers with its real name.
    if len(found) != len(names):
        return missing
    return tuple(Unit(name, unit.load, unit.active, unit.enabled) for name, unit in zip(names, found, strict=True))


def parse_show(content: str) -> tuple[Unit, ...]:
    """Parse blocks of NAME=VALUE lines, separated by an empty line."""
    units = []
    for block in content.strip("\n").split("\n\n"):
        values = dict(line.split("=", 1) for line in block.split("\n") if "=" in line)
        if "Id" in values:
            units.append(
                Unit(values["Id"], values.get("LoadState", ""), values.get("ActiveState", ""), values.get("UnitFileState", ""))
            )
    return tuple(units)

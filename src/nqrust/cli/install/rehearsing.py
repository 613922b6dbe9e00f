"""The command line's part of `--rehearse`: the arguments of the install, and the report file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nqrust.cli.failures import write_private
from nqrust.cli.install.flags import run_value
from nqrust.installer.settings.options import OPTIONS

if TYPE_CHECKING:
    from nqrust.installer.request import Summary


def install_arguments(flags: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arguments of the `nqr install` that the same flags would start. Variables come from the environment."""
    found = ["install", "--non-interactive", "--output", "json"]
    for option in OPTIONS:
        value = flags.get(option.parameter)
        if isinstance(value, bool):
            found.append(option.flag if value else option.off)
        elif value is not None:
            found.append(f"{option.flag}={value}")
    if flags.get("config"):
        found.append(f"--config={flags['config']}")
    for code in run_value(flags, "ignore_preflight") or ():
        found.append(f"--ignore-preflight={code}")
    older = flags.get("allow_downgrade")
    if older is not None:
        found.append("--allow-downgrade" if older else "--no-allow-downgrade")
    for name in ("on_failure", "log_level"):
        if value := run_value(flags, name):
            found.append(f"--{name.replace('_', '-')}={value}")
    return tuple(found)


def write_report(path: str, summary: Summary) -> None:
    """Write the report with mode 0600, because it names every written file. Raises UsageError NQR-USE-011."""
    from nqrust.installer.reporting.jsonl import summary_object

    write_private(path, (json.dumps(summary_object(summary), indent=1) + "\n").encode(), mode=0o600)

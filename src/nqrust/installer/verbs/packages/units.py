"""Units of packages that go: systemd remembers one that failed after its file is gone (systemctl(1), reset-failed)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nqrust.host.port import Host, command

_UNIT = re.compile(r"/(?:usr/)?lib/systemd/system/([^/]+\.(?:service|socket|timer|path))\Z")

FUNCTIONS = r"""forget_units() { # patterns of units whose packages are gone
    if [ -d /run/systemd/system ]; then systemctl reset-failed -- "$@" >/dev/null 2>&1 || :; fi
}
"""


def patterns(paths: Iterable[str]) -> list[str]:
    """Patterns of the units among the paths of packages; of a template, all its instances."""
    names = {found[1] for path in paths if (found := _UNIT.search(path))}
    return sorted(name.replace("@.", "@*.") for name in names)


def forget(host: Host, wanted: list[str]) -> None:
    """Let systemd forget that they failed."""
    if wanted and host.exists("/run/systemd/system"):
        host.run(command("systemctl", "reset-failed", "--", *wanted, ok=(0, 1, 5)))

"""The rules that keep guests from the host and from each other's share, put back when they vanish.

They are the installer's, in the script that the host runs at boot: `check` finds whether they stand, `up` puts them back.
A program that flushes the firewall takes them away, and guests would reach the host's ports until somebody looks.
"""

from __future__ import annotations

import json

from nqrust.contract.paths import LOCK_FILE
from nqrust.host import locks
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command

_MISSING = 1


class NetworkRules:
    """`script`: of the network that this host was given; where it is not there, the LAN's rules hold. A run of nqr changes the
    network: while one holds the lock, nothing is put back, neither the rules of a network that goes nor its bridge. A run that
    waits for an answer changes nothing yet, and nobody knows how long it waits."""

    def __init__(self, host: Host, script: str) -> None:
        self._host, self._script = host, script

    def keep(self) -> bool:
        """The rules stand; whether they had to be put back. Raises a HostError."""
        if not self._host.exists(self._script) or self._is_changing():
            return False
        # A script of an earlier version does not know the verb and exits with 2.
        if self._host.run(command(self._script, "check", ok=(0, _MISSING, 2))).code != _MISSING or self._is_changing():
            return False
        self._host.run(command(self._script, "up"))
        return True

    def _is_changing(self) -> bool:
        holders = locks.holders(self._host, LOCK_FILE)
        return bool(holders) and not self._asks(holders)

    def _asks(self, holders: list[int]) -> bool:
        """Return whether the holder itself has written that it asks: the file of a killed one may still say so."""
        try:
            noted = json.loads(self._host.read_text(LOCK_FILE))
            return noted.get(locks.ASKING) is True and noted["pid"] in holders
        except (HostError, ValueError, KeyError, AttributeError):
            return False

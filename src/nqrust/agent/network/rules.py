"""The rules that keep guests from the host and from each other's share, put back when they vanish.

They are the installer's, in the script that the host runs at boot: `check` finds whether they stand, `up` puts them back.
A program that flushes the firewall takes them away, and guests would reach the host's ports until somebody looks.
"""

from __future__ import annotations

from nqrust.contract.paths import LOCK_FILE
from nqrust.host import locks
from nqrust.host.port import Host, command

_MISSING = 1


class NetworkRules:
    """`script`: of the network that this host was given; where it is not there, the LAN's rules hold. A run of nqr changes the
    network: while one holds the lock, nothing is put back, neither the rules of a network that goes nor its bridge."""

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
        return bool(locks.holders(self._host, LOCK_FILE))

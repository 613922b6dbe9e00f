"""The agent's own table of nftables, for frames that come from the ports of VMs. nft(8), bridge family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nqrust.contract.names import LAN_TABLE
from nqrust.host.port import Host, command

NAME = " ".join(LAN_TABLE)


class OwnTable:
    """Nobody else draws it while this agent runs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._drawn = self._seen = ""

    def fill(self, wanted: str) -> bool:
        """Give the table this content, as `text` makes it. Return whether anything changed. Raises a HostError.

        nft(8) prints a table in a form of its own, so the comparison is with what it printed after the last change. The kernel fills
        sets itself, so it prints none of their content (`-t`).
        """
        if wanted == self._drawn and self._printed() == self._seen:
            return False
        self._host.run(command("nft", "-f", "-", input=wanted.encode()))
        self._drawn, self._seen = wanted, self._printed()
        return True

    def _printed(self) -> str:
        return self._host.run(command("nft", "-s", "-n", "-t", "list", "table", *LAN_TABLE, ok=(0, 1))).stdout


def text(lines: Iterable[str]) -> str:
    """Return input of nft(8) that replaces the table in one transaction. Pure."""
    return "\n".join([f"table {NAME}", f"delete table {NAME}", f"table {NAME} {{", *lines, "}", ""])


def chain(name: str, lines: Iterable[str]) -> list[str]:
    return [f"\tchain {name} {{", *(f"\t\t{line}" for line in lines), "\t}"]


def by_port(verdicts: Mapping[str, str], closed: Iterable[str] = ()) -> str:
    """Return the rule that treats frames by the port that they come from. `closed`: ports from which nothing passes. Pure."""
    elements = [f'"{port}" : {verdict}' for port, verdict in [*verdicts.items(), *((port, "drop") for port in closed)]]
    return f"iifname vmap {{ {', '.join(elements)} }}"

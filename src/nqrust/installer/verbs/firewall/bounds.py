"""Matches that bound what guests take. iptables-extensions(8): hashlimit, connlimit.

dnsmasq(8) waits 10 seconds for an answer, forwards a number of queries at once (resources/dnsmasq.py), and serves 20 connections at
once. A guest can have its queries led to a name server that does not answer. The bound of one guest alone would let a few have all.
So guests share most of the room as they ask, and each has a little of the rest for itself.
"""

from __future__ import annotations

Rule = tuple[str, ...]


FIRST = ("-m", "conntrack", "--ctstate", "NEW", "!", "--ctstatus", "CONFIRMED")
"""The first packet of a connection. Without an answer the later ones are NEW, too, such as those of syslog over UDP."""


def more_often(name: str, a_second: int, burst: int, *, each: bool = True) -> Rule:
    """Matches what a source, or all of them, send beyond `a_second` packets a second, after `burst` at once."""
    above = ("--hashlimit-above", f"{a_second}/sec", "--hashlimit-burst", str(burst))
    return ("-m", "hashlimit", *above, *(("--hashlimit-mode", "srcip") if each else ()), "--hashlimit-name", name)


def to_one_port(name: str, a_second: int, burst: int) -> Rule:
    """Matches what a source sends to one port of one machine beyond `a_second` packets a second, after `burst` at once."""
    above = ("--hashlimit-above", f"{a_second}/sec", "--hashlimit-burst", str(burst))
    return ("-m", "hashlimit", *above, "--hashlimit-mode", "srcip,dstip,dstport", "--hashlimit-name", name)


def more_at_once(connections: int, *, each: bool = True) -> Rule:
    """Matches what a source, or all of them, begin beyond that many open connections."""
    return (
        "-m",
        "connlimit",
        "--connlimit-above",
        str(connections),
        "--connlimit-mask",
        "32" if each else "0",
        "--connlimit-saddr",
    )


OF_ONE, OF_ALL, BEYOND = (50, 200), (200, 500), (1, 10)
"""Queries a second, and at once: of a guest, of all guests, and of each guest beyond those of all."""
CONNECTIONS_OF_ONE, CONNECTIONS_OF_ALL, CONNECTIONS_BEYOND = 2, 4, 1


def queries(to_dns: Rule) -> list[Rule]:
    """Return the rules that drop queries over UDP."""
    beyond = (*more_often("nqr-dns-all", *OF_ALL, each=False), *more_often("nqr-dns-few", *BEYOND))
    return [(*to_dns, *more_often("nqr-dns", *OF_ONE), "-j", "DROP"), (*to_dns, *beyond, "-j", "DROP")]


def connections(to_dns: Rule) -> list[Rule]:
    """Return the rules that drop new connections over TCP."""
    beyond = (*more_at_once(CONNECTIONS_OF_ALL, each=False), *more_at_once(CONNECTIONS_BEYOND))
    return [(*to_dns, *more_at_once(CONNECTIONS_OF_ONE), "-j", "DROP"), (*to_dns, *beyond, "-j", "DROP")]

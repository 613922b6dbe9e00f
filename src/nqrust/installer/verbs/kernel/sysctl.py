"""A kernel parameter, set now. A File step in /etc/sysctl.d sets it at boot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.verbs.kernel.forwarding import FORWARDING, found_on, signs
from nqrust.installer.verbs.kernel.undo import sysctl_path, undo_sysctl

_LINKS = "/proc/sys/net/ipv4/conf"
RESETS = {(FORWARDING, "0"): ("net.ipv4.conf.all.accept_redirects", "1")}
"""Parameters that the kernel changes with another (ip-sysctl: a change of ip_forward resets others). Setting the first back
would therefore undo settings of an administrator, or of ufw(8)."""


@dataclass(frozen=True)
class Sysctl:
    """A kernel parameter. `key` in sysctl(8)'s notation; a dot within an interface's name as `/`. `optional`: the kernel may
    lack it (net.bridge.* without br_netfilter). `at_least`: a larger number is fine."""

    kind: ClassVar[str] = "sysctl"

    key: str
    value: str
    optional: bool = False
    at_least: bool = False

    @property
    def id(self) -> str:
        return f"sysctl:{self.key}"

    def describe(self) -> str:
        return f"set {self.key} to {self.value}"

    def inspect(self, host: Host) -> Inspection:
        path = sysctl_path(self.key)
        if not host.exists(path):
            return Satisfied(f"{self.key} is not there") if self.optional else Needed((f"{self.key}: -> {self.value}",))
        now = _normal(host.read_text(path))
        if now == _normal(self.value) or (self.at_least and _number(now) >= _number(self.value)):
            return Satisfied()
        return Needed((f"{self.key}: {now} -> {self.value}",))

    def prepare(self, host: Host) -> Prepared:
        path = sysctl_path(self.key)
        if not host.exists(path):
            raise self._missing()
        # The value as read back, because the undo compares with it.
        prior = host.read_text(path).strip()
        others = signs(host) if (self.key, prior) == (FORWARDING, "0") else ()
        undo = undo_sysctl(self.key, prior=prior, ours=self.value, others=others)
        return Prepared(Origin.modified, (*_reset(host, self.key, prior), undo))

    def apply(self, host: Host) -> None:
        path = sysctl_path(self.key)
        if not host.exists(path):
            raise self._missing()
        # Write in place: rename cannot replace a file of procfs.
        host.run(command("tee", path, input=f"{self.value}\n".encode()))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _missing(self) -> StepFailed:
        return StepFailed(
            "NQR-NET-101",
            f"This kernel has no parameter {self.key}.",
            "Load the kernel module that provides it (or use the distribution's own kernel), then run the same command again.",
        )


def _reset(host: Host, key: str, prior: str) -> tuple[Undo, ...]:
    """Return undo records that run after `key`: nqr reverts records in reverse order."""
    if (key, prior) not in RESETS:
        return ()
    other, value = RESETS[key, prior]
    path = sysctl_path(other)
    now = host.read_text(path).strip() if host.exists(path) else value
    links = tuple(undo_sysctl(one, prior="1", ours="0") for one in _links_that_forward(host))
    return links if now == value else (*links, undo_sysctl(other, prior=now, ours=value))


def _links_that_forward(host: Host) -> list[str]:
    """Return the parameters of links that forward while the host as a whole does not; systemd.network(5), IPv4Forwarding="""
    links = [one for one in (host.listdir(_LINKS) if host.exists(_LINKS) else []) if one not in ("all", "default")]
    names = [f"net.ipv4.conf.{one.replace('.', '/')}.forwarding" for one in links]
    return [one for one in names if host.exists(sysctl_path(one)) and host.read_text(sysctl_path(one)).strip() == "1"]


def routed(host: Host, undos: Iterable[Undo]) -> bool:
    """Return whether this host forwarded packets before nqr, by the receipt's records, oldest first. If nqr did not turn it on, as
    before the first install, by the kernel."""
    kept = [undo.args for undo in undos if undo.verb == "sysctl"]
    prior = [str(one["prior"]) for one in kept if one.get("key") == FORWARDING]
    if prior:
        of_links = (
            str(one.get("key")).startswith("net.ipv4.conf.") and str(one.get("key")).endswith(".forwarding") for one in kept
        )
        return prior[0] != "0" or any(of_links)
    path = sysctl_path(FORWARDING)
    now = host.read_text(path).strip() if host.exists(path) else "0"
    return now != "0" or bool(_links_that_forward(host))


def forwards_for_others(host: Host, undos: Iterable[Undo]) -> bool:
    """Return whether others rely on the forwarding that nqr turned on, by the receipt's records."""
    kept = [undo.args for undo in undos if undo.verb == "sysctl" and undo.args.get("key") == FORWARDING]
    return bool(kept) and bool(found_on(host, {sign for args in kept for sign in args.get("others", ())}))


def _normal(text: str) -> str:
    return " ".join(text.split())


def _number(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() else -1

"""Tells whether two machines report as one host: a copy of its disk, or the repaired original beside its restored image.

Both have the credentials of the host, and only their boot ids differ. A machine that boots registers its new boot id. A
heartbeat with a replaced one proves that two machines are on. Nothing is done on such a host, because its VMs could start a
second time. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlsplit

from pydantic import BaseModel

from nqrust import loopback
from nqrust.manager.store.tables import Host

QUIET = timedelta(seconds=20)
"""After a new boot, until nothing more is expected from a machine with the former one: it sends a heartbeat every 15 s."""
ALONE = timedelta(seconds=60)
"""After the last sign of the other machine, until the conflict ends. An agent tries again within 18 s."""
_KEPT = 16
CURE = "Turn off the machine that must not be this host. Then run `systemctl restart nqrust-agent` on the other one."


class Boots(BaseModel):
    """`earlier`: former boot ids, the newest last. `former_seen_at`: last sign of the former boot; None once the new one is
    trusted. `twin_at`, `twin_from`: the last heartbeat with an earlier boot id. `registered_at`: start of the agent since then."""

    earlier: list[str] = []
    former_seen_at: datetime | None = None
    twin_at: datetime | None = None
    twin_from: str = ""
    registered_at: datetime | None = None

    def returned(self, present: str, boot_id: str) -> bool:
        """Return whether another boot id has replaced `boot_id`."""
        return boot_id != present and boot_id in self.earlier

    def replaced(self, former: str, boot_id: str, seen_at: datetime | None) -> Boots:
        """Return the same with a new boot id in the place of `former`, which was last seen at `seen_at`."""
        earlier = [one for one in self.earlier if one not in (former, boot_id)]
        return self.model_copy(update={"earlier": [*earlier, former][-_KEPT:], "former_seen_at": seen_at})

    def trusted(self) -> Boots:
        return self.model_copy(update={"former_seen_at": None})

    def proven(self, now: datetime, source: str) -> Boots:
        """Return the same with the sign of a second machine, from `source`."""
        return self.model_copy(update={"twin_at": now, "twin_from": source, "registered_at": None})

    def single(self) -> Boots:
        return self.model_copy(update={"twin_at": None, "twin_from": ""})

    def registered(self, now: datetime, former_url: str, url: str) -> Boots:
        """Return the same after the start of an agent. If it has another address, the second machine is the one before."""
        moved = self.twin_at is not None and former_url.rstrip("/") != url.rstrip("/")
        twin = {"twin_from": urlsplit(former_url).hostname or ""} if moved else {}
        return self.model_copy(update={"registered_at": now, **twin})

    def conflicts(self, now: datetime, watching_since: datetime) -> bool:
        """Return whether two machines report. It ends after an agent's start that no sign of the other machine follows.

        Silence counts only while the manager runs.
        """
        if self.twin_at is None:
            return False
        decided = self.registered_at is not None and self.registered_at >= self.twin_at
        return not decided or now - max(self.twin_at, watching_since) < ALONE

    def waits(self, now: datetime, watching_since: datetime) -> bool:
        """Return whether a machine with the former boot id may still report."""
        return self.former_seen_at is not None and now - max(self.former_seen_at, watching_since) < QUIET


def of(host: Host, now: datetime) -> Boots:
    """Return what is known. A time in the future, noted while the clock was ahead, becomes now: until it came, nothing ended."""
    known = Boots.model_validate(host.boots)
    times = {name: at for name, at in known if isinstance(at, datetime)}
    return known.model_copy(update={name: min(at, now) for name, at in times.items()})


def stays(former_url: str, url: str) -> bool:
    """Return whether both addresses are the manager's own machine, which no other machine can be."""
    return all(loopback.is_local(urlsplit(one).hostname or "") for one in (former_url, url))


def conflict(host: Host, now: datetime, watching_since: datetime) -> str:
    """Return what is wrong and how to end it, if two machines report as this host. Otherwise empty."""
    boots = of(host, now)
    if not boots.conflicts(now, watching_since):
        return ""
    return f"{told(host, boots)} {CURE}"


def told(host: Host, boots: Boots) -> str:
    return f"Two machines report as host {host.name}: one at {host.url} and one from {boots.twin_from}."


def obstacle(host: Host, now: datetime, watching_since: datetime) -> str:
    """Return why nothing may be done on a host now. Empty: it may."""
    if wrong := conflict(host, now, watching_since):
        return wrong
    if of(host, now).waits(now, watching_since):
        return f"Host {host.name} has just booted. The manager waits {QUIET.seconds} s for a second machine with its identity."
    return ""

"""Shared by every part of the running manager."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from nqrust.client.lookups import Lookups
from nqrust.contract.images import Download
from nqrust.manager.clock import now
from nqrust.manager.core import boots
from nqrust.manager.core.agents import AgentAway, AgentPort, Agents
from nqrust.manager.core.budgets import Budgets
from nqrust.manager.core.callers import Callers
from nqrust.manager.core.guesses import Guesses
from nqrust.manager.core.hashing import Hashing
from nqrust.manager.core.throttle import Buckets
from nqrust.manager.core.tickets import Tickets
from nqrust.manager.core.trust import Trust
from nqrust.manager.core.viewers import Viewers
from nqrust.manager.settings import Settings
from nqrust.manager.store.database import Database
from nqrust.manager.store.tables import Host

SIGN_INS, SIGN_IN_SECONDS = 200, 5.0
"""Sign-ins and new passwords of one user at once, and the seconds until one more."""

LATE = 1000
"""Entries of the audit log that wait for the database at most."""


@dataclass
class Core:
    """`trust`: the certificates; None without TLS. `wake`: set if there may be an operation to run. `changed`: pulses after each operation.

    `late`: entries of the audit log that the database could not take yet; the newest ones. `deleting`: names of kept volumes that
    their hosts are to delete now. `downloads`: running downloads by image id. `fetching` and `checking` of images: two at a time.
    `lookups`: for the images of each user. `reboots`: time of the last event about a reboot of a VM's guest. `ui_key_sha256`: of
    the key with which the web UI passes on the addresses of its users. `started`: monotonic clock at the start, in seconds.
    """

    settings: Settings
    db: Database
    agents: Agents
    trust: Trust | None = None
    callers: Callers = field(default_factory=Callers)
    guesses: Guesses = field(default_factory=Guesses)
    budgets: Budgets = field(default_factory=Budgets)
    hashing: Hashing = field(default_factory=Hashing)
    sign_ins: Buckets = field(default_factory=lambda: Buckets(SIGN_INS, SIGN_IN_SECONDS))
    tickets: Tickets = field(default_factory=Tickets)
    viewers: Viewers = field(default_factory=Viewers)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    started: float = field(default_factory=time.monotonic)
    leading: bool = False
    background: set[asyncio.Task[None]] = field(default_factory=set)
    late: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LATE))
    deleting: set[str] = field(default_factory=set)
    downloads: dict[str, Download] = field(default_factory=dict)
    fetching: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    checking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    lookups: WeakValueDictionary[str, Lookups] = field(default_factory=WeakValueDictionary)
    reboots: dict[str, datetime] = field(default_factory=dict)
    ui_key_sha256: str = ""

    @property
    def started_at(self) -> datetime:
        """Return when the manager started, by the present clock. The clock of that time may have been hours off."""
        return now() - timedelta(seconds=time.monotonic() - self.started)

    def agent_of(self, host: Host) -> AgentPort:
        """Return the agent of a host. Raises AgentAway while two machines may report as this host."""
        if why := boots.obstacle(host, now(), self.started_at):
            raise AgentAway(why)
        tls = self.trust.towards(host) if self.trust else None
        return self.agents.at(host.url, host.command_token, tls, host_id=host.id)

"""Reports of guests, kept in memory. News is also written to disk: a VM's boot id and address survive an agent restart."""

from __future__ import annotations

import hmac
import threading
import time
from datetime import datetime, timedelta

from nqrust.agent.store import GuestNote, Store
from nqrust.contract.credentials import hash_token
from nqrust.contract.vms import GuestReport

_PAUSE = timedelta(seconds=1)  # between two writes for one guest


class GuestBook:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._notes: dict[str, GuestNote] = {}
        self._written: dict[str, GuestNote] = {}
        self._lock = threading.Lock()

    def admits(self, vm_id: str, token: str) -> bool:
        """Return whether `token` matches the one in that VM's disk."""
        record = self._store.read(vm_id)
        return record is not None and bool(record.token_sha256) and hmac.compare_digest(record.token_sha256, hash_token(token))

    def record(self, vm_id: str, report: GuestReport, at: datetime) -> GuestNote:
        note = GuestNote(report=report, at=at)
        before = self.note(vm_id)
        with self._lock:
            self._notes[vm_id] = note
            written = self._written.get(vm_id)
        on_disk = written or before
        told = on_disk is not None and (on_disk.report.boot_id, on_disk.report.ip) == (report.boot_id, report.ip)
        if not told and (written is None or abs(at - written.at) >= _PAUSE):  # otherwise with a later report
            self._store.write_guest(vm_id, note)
            with self._lock:
                self._written[vm_id] = note
        return note

    def note(self, vm_id: str) -> GuestNote | None:
        with self._lock:
            found = self._notes.get(vm_id)
        if found is None:
            found = self._store.read_guest(vm_id)
            if found is not None:
                with self._lock:
                    self._notes.setdefault(vm_id, found)
        return found

    def forget(self, vm_id: str) -> None:
        """Forget the guest: it is about to boot, or gone."""
        with self._lock:
            self._notes.pop(vm_id, None)
            self._written.pop(vm_id, None)
        self._store.remove_guest(vm_id)


class RateLimit:
    """A token bucket for each source: `burst` at once, then `rate` a second. The table is bounded."""

    def __init__(self, rate: float = 5.0, burst: float = 20.0, sources: int = 4096) -> None:
        self._rate, self._burst, self._sources = rate, burst, sources
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, source: str, now: float | None = None) -> bool:
        now = time.monotonic() if now is None else now
        level, since = self._buckets.pop(source, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        if len(self._buckets) >= self._sources:
            self._buckets.pop(next(iter(self._buckets)))  # the least recently active source
        allowed = level >= 1.0
        self._buckets[source] = (level - 1.0 if allowed else level, now)
        return allowed

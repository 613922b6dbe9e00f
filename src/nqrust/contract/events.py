"""Events of things, and the audit log of requests."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class Event(BaseModel):
    id: int
    at: datetime
    subject_kind: str  # vm | host | image | template | volume | user | system
    subject_id: str
    subject_name: str
    reason: str  # CamelCase word, stable for programs: Started, GuestUp, HostOffline ...
    message: str  # a sentence for people
    severity: str = "info"  # info | warning | error


class EventList(BaseModel):
    items: list[Event]


class AuditEntry(BaseModel):
    id: int
    at: datetime
    actor: str
    method: str
    path: str
    status: int
    request_id: str
    source: str


class AuditList(BaseModel):
    items: list[AuditEntry]


class Health(BaseModel):
    """GET /health of the manager. It needs no authentication, so it contains nothing private."""

    status: str
    version: str

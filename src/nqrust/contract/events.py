"""Events of things, and the audit log of requests."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


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
    """One request that changed something or was refused, or one opened console. docs/reference/api.md has the same list."""

    id: int = Field(description="grows with each entry")
    at: datetime = Field(description="time of the answer (UTC)")
    actor: str = Field(description="NAME of a user, token:NAME, agent:HOST, join-token:HOST, sign-in:NAME or anonymous")
    username: str = Field(default="", description="the user, or the owner of the token")
    token: str = Field(default="", description="name of the API token or the join token")
    auth: str = Field(default="", description="session | password | token | ticket | agent | join-token")
    action: str = Field(default="", description="name of the route, such as create_vm; empty if none was reached")
    target: str = Field(default="", description="the thing by name, such as web1, or web1/before for a snapshot of it")
    method: str = Field(description="HTTP method")
    path: str = Field(description="path of the request, with the id or the name as it was sent")
    status: int = Field(description="HTTP status of the answer; 101 for an opened console")
    code: str = Field(default="", description="code of the error, for a refused or failed request")
    request_id: str = Field(description="as in the manager's log and the answer's X-Request-Id")
    source: str = Field(description="address of the user's machine")


class AuditList(BaseModel):
    items: list[AuditEntry]


class Health(BaseModel):
    """GET /health of the manager. It needs no authentication, so it contains nothing private."""

    status: str
    version: str

"""The database's tables. Every time stamp is UTC with time zone; every id that people see is a UUID as text.

Constraints, not code, ensure uniqueness: names, addresses and TAPs of a host, running operations of a VM, idempotency keys.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from nqrust.contract.vms import PortForward, VmKept

# Named constraints, so that migrations can refer to them.
_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


class Document(TypeDecorator[Any]):
    """A model of the contract in a JSONB column. Replace it as a whole: changes inside it are not detected."""

    impl = JSONB
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return _adapter(self.kind).dump_python(value, mode="json")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return _adapter(self.kind).validate_python(value)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own form
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }


class User(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Token(Base):
    """Bearer tokens: `session` from a sign-in, `api` created by an administrator, `bootstrap` from the installer.

    `user_id`: the owner. `parent_id`: the token with which an API token was created. A token ends with either of them.
    """

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"), index=True)
    created_by: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class JoinToken(Base):
    """A token with which the agent of host `host_name` registers. `reusable` ones come from the installer and work from this
    machine only; those of older installations are for any name.

    `replace`: the host may exist already. `used_from`: the address that used it. It ends with the user `user_id`.
    """

    __tablename__ = "join_tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str | None] = mapped_column(unique=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    reusable: Mapped[bool] = mapped_column(Boolean, default=False)
    host_name: Mapped[str | None]
    replace: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    used_from: Mapped[str | None]
    host_id: Mapped[str | None] = mapped_column(ForeignKey("hosts.id", ondelete="SET NULL"))


class Host(Base):
    """The agent authenticates with the token of `agent_token_sha256`. The manager sends `command_token`, so it is stored.

    `identity`: counts the joins with a certificate. 0: the agent has none yet, and may use plain HTTP. `certificate`: SHA-256
    of the last one issued, `certificate_signer` of the authority that signed it. `seen_certificate`, `seen_authority`: what
    the agent's last heartbeat told of its own. `next_…`: tokens that the agent was sent, until it uses them. `tokens_at`: when.
    `boots`: see manager/core/boots.py.
    """

    __tablename__ = "hosts"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    url: Mapped[str]
    agent_token_sha256: Mapped[str] = mapped_column(unique=True)
    command_token: Mapped[str]
    identity: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    certificate: Mapped[str] = mapped_column(default="", server_default="")
    certificate_signer: Mapped[str] = mapped_column(default="", server_default="")
    certificate_at: Mapped[datetime | None]
    next_agent_token_sha256: Mapped[str | None] = mapped_column(unique=True)
    next_command_token: Mapped[str | None]
    tokens_at: Mapped[datetime | None]
    seen_certificate: Mapped[str] = mapped_column(default="", server_default="")
    seen_authority: Mapped[str] = mapped_column(default="", server_default="")
    version: Mapped[str]
    boot_id: Mapped[str]
    boots: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    vmm: Mapped[str]
    accel: Mapped[str]
    kvm: Mapped[bool] = mapped_column(Boolean)
    state: Mapped[str] = mapped_column(default="online")
    cordoned: Mapped[bool] = mapped_column(Boolean, default=False)
    capacity: Mapped[dict[str, Any]]
    network: Mapped[dict[str, Any]]
    last_ip: Mapped[str | None]
    last_seen_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Rotation(Base):
    """Secrets of a kind that are older than `at` are replaced as soon as their holder comes. `kind`: see hosts/rotation.py."""

    __tablename__ = "rotations"

    kind: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class Image(Base):
    """`checked` remembers size and mtime of each file whose sha256 was read, so that it is read once.

    `origin`, `digest`: as in the manifest, for images that were pulled.
    """

    __tablename__ = "images"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    managed: Mapped[bool] = mapped_column(Boolean, default=True)
    state: Mapped[str]
    error: Mapped[str] = mapped_column(default="")
    manifest: Mapped[dict[str, Any]]
    checked: Mapped[dict[str, Any]]
    origin: Mapped[str] = mapped_column(default="", server_default="")
    digest: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Vm(Base):
    __tablename__ = "vms"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    host_id: Mapped[str | None] = mapped_column(ForeignKey("hosts.id"), index=True)
    wanted_host: Mapped[str | None]
    image_id: Mapped[str] = mapped_column(ForeignKey("images.id"), index=True)
    image: Mapped[str]
    vcpus: Mapped[int] = mapped_column(Integer)
    memory_mib: Mapped[int] = mapped_column(Integer)
    disk_mib: Mapped[int] = mapped_column(Integer)
    desired_state: Mapped[str]
    state: Mapped[str]
    generation: Mapped[int] = mapped_column(Integer, default=1)
    observed_generation: Mapped[int] = mapped_column(Integer, default=0)
    ip: Mapped[str | None]
    mac: Mapped[str]
    tap: Mapped[str]
    guest_token: Mapped[str]
    guest_token_sha256: Mapped[str]
    guest: Mapped[dict[str, Any] | None]
    guest_up_at: Mapped[datetime | None]
    boot_id: Mapped[str | None]
    host_boot_id: Mapped[str | None]
    error: Mapped[str] = mapped_column(default="")
    restarts: Mapped[int] = mapped_column(Integer, default=0)
    restarted_at: Mapped[datetime | None]
    drained: Mapped[bool] = mapped_column(Boolean, default=False)
    created_by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    limits: Mapped[dict[str, Any] | None]
    exit_code: Mapped[int | None] = mapped_column(Integer)
    made: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    """Its host has had its disk."""
    spec: Mapped[VmKept] = mapped_column(Document(VmKept))
    network_written: Mapped[str] = mapped_column(server_default=text("''"))

    __table_args__ = (
        UniqueConstraint("host_id", "ip"),
        UniqueConstraint("host_id", "tap"),
        UniqueConstraint("mac"),
    )

    def change(self, **fields: Any) -> None:
        """Set these fields of `spec` to models or their JSON form."""
        self.spec = VmKept.model_validate({**dict(self.spec), **fields})


SPEC = type_coerce(Vm.spec, JSONB)
"""`Vm.spec` for queries that look into it."""


class Snapshot(Base):
    """Deleted together with its VM, here and on the host."""

    __tablename__ = "snapshots"

    vm_id: Mapped[str] = mapped_column(ForeignKey("vms.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    error: Mapped[str] = mapped_column(default="")
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Volume(Base):
    """A kept volume. Rows of detached volumes follow the report of their host."""

    __tablename__ = "volumes"

    name: Mapped[str] = mapped_column(primary_key=True)
    host_id: Mapped[str] = mapped_column(ForeignKey("hosts.id", ondelete="CASCADE"), index=True)
    vm_id: Mapped[str | None] = mapped_column(ForeignKey("vms.id", ondelete="SET NULL"), index=True)
    size_mib: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Template(Base):
    """`spec`: a `TemplateSpec`."""

    __tablename__ = "templates"

    name: Mapped[str] = mapped_column(primary_key=True)
    spec: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Tombstone(Base):
    """The record of a VM's deletion, written with the request. Without a row, only a VM with one is removed from a host.

    `confirmed_at`: when its host confirmed that nothing of it is left.
    """

    __tablename__ = "tombstones"

    vm_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    host_id: Mapped[str | None] = mapped_column(String(36))
    deleted_by: Mapped[str] = mapped_column(default="")
    deleted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    confirmed_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_tombstones_unconfirmed", "host_id", postgresql_where=text("confirmed_at IS NULL")),)


class UnknownVm(Base):
    """A VM that its host last reported and no row of `vms` describes."""

    __tablename__ = "unknown_vms"

    host_id: Mapped[str] = mapped_column(ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True)
    vm_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str]
    state: Mapped[str]
    ip: Mapped[str | None]
    image: Mapped[str] = mapped_column(default="")
    vcpus: Mapped[int] = mapped_column(Integer, default=0)
    memory_mib: Mapped[int] = mapped_column(Integer, default=0)
    forwards: Mapped[list[PortForward]] = mapped_column(Document(list[PortForward]), server_default=text("'[]'"))
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Operation(Base):
    """A requested change, written before it is carried out. Kept after the VM is gone."""

    __tablename__ = "operations"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    vm_id: Mapped[str] = mapped_column(String(36))
    host_id: Mapped[str | None] = mapped_column(String(36))
    kind: Mapped[str]
    generation: Mapped[int] = mapped_column(Integer)
    params: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    request_sha256: Mapped[str | None]
    actor: Mapped[str] = mapped_column(default="")
    state: Mapped[str] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())
    deadline: Mapped[datetime]
    error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        # Only one operation of a VM runs at a time.
        Index("uq_operations_running_vm", "vm_id", unique=True, postgresql_where=text("state = 'running'")),
        Index("ix_operations_open", "not_before", postgresql_where=text("state IN ('pending', 'running')")),
        Index("ix_operations_vm_id_kind", "vm_id", "kind"),
    )


class Event(Base):
    __tablename__ = "events"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    subject_kind: Mapped[str]
    subject_id: Mapped[str]
    subject_name: Mapped[str]
    reason: Mapped[str]
    message: Mapped[str]
    severity: Mapped[str] = mapped_column(default="info")

    __table_args__ = (
        Index("ix_events_subject_id_id", "subject_id", "id"),
        Index("ix_events_subject_name_id", "subject_name", "id"),
    )


class Audit(Base):
    """One row a request. `contract.events.AuditEntry` explains the columns."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    actor: Mapped[str]
    username: Mapped[str] = mapped_column(default="", server_default="")
    token: Mapped[str] = mapped_column(default="", server_default="")
    auth: Mapped[str] = mapped_column(default="", server_default="")
    action: Mapped[str] = mapped_column(default="", server_default="")
    target: Mapped[str] = mapped_column(default="", server_default="")
    method: Mapped[str]
    path: Mapped[str]
    status: Mapped[int] = mapped_column(Integer)
    code: Mapped[str] = mapped_column(default="", server_default="")
    request_id: Mapped[str]
    source: Mapped[str]

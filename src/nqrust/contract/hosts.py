"""Hosts: machines with an agent."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from nqrust.contract.unknown_vms import UnknownVm
from nqrust.contract.vms import Name


class HostState(str, Enum):
    online = "online"
    degraded = "degraded"  # silent for 30 s
    offline = "offline"  # silent for 5 min; its VMs are `unknown`


_Port = Annotated[int, Field(ge=1, le=65535)]


class HostNetwork(BaseModel):
    """The VM network of a host. Addresses are handed out by reservation from [dhcp_first, dhcp_last]."""

    mode: Name = "nat"
    bridge: Name
    cidr: Name = ""
    gateway: Name = ""
    dhcp_first: Name = ""
    dhcp_last: Name = ""
    guest_relay: Name = Field(default="", description="http://ADDRESS:PORT that guests report to")
    kept_ports: Annotated[list[_Port], Field(max_length=64)] = Field(
        default=[], description="TCP ports that lead to no VM: the platform's and SSH's"
    )


_Mib = Annotated[int, Field(ge=0, le=2**40)]
_Memory = Annotated[int, Field(ge=0, le=2**26)]


class HostCapacity(BaseModel):
    """At most what a machine can have: 64 TiB of memory, 1 EiB of disk. An agent is not trusted with more."""

    cpus: int = Field(ge=0, le=8192)
    memory_mib: _Memory
    memory_available_mib: _Memory = 0
    disk_mib: _Mib = 0
    disk_available_mib: _Mib = 0

    @classmethod
    def stored(cls, document: object) -> HostCapacity:
        """Return the capacity on record. An earlier version recorded it without bounds: beyond them it is as not reported."""
        try:
            return cls.model_validate(document)
        except ValidationError:
            return cls(cpus=0, memory_mib=0)


class HostRegister(BaseModel):
    """POST /v1/hosts/register with a join token (first time) or the agent's own token (afterwards) as bearer."""

    name: str = Field(min_length=1, max_length=253)
    advertise_url: str = Field(max_length=300, description="http://ADDRESS:PORT at which the manager reaches this agent")
    version: Name
    boot_id: Name
    vmm: Name = Field(description="firecracker | qemu")
    accel: Name = Field(description="kvm | tcg")
    kvm: bool
    capacity: HostCapacity
    network: HostNetwork
    certificate_request: str = Field(default="", max_length=4096, description="PKCS #10, PEM; empty: the agent has a certificate")


class HostRegistered(BaseModel):
    """`agent_token` authenticates the agent to the manager; `command_token` the manager to the agent.

    Both are new and returned only if the agent registered with a join token; otherwise they are empty and unchanged.
    `certificate` answers a certificate request, and `authority` signs it; both are empty on a manager without TLS.
    `renew_certificate` and `renew_tokens` answer a heartbeat: the agent fetches new ones now.
    """

    host_id: str
    agent_token: str = ""
    command_token: str = ""
    heartbeat_seconds: int = 15
    certificate: str = ""
    authority: str = ""
    renew_certificate: bool = False
    renew_tokens: bool = False


class CertificateRenewal(BaseModel):
    """POST /v1/hosts/{host_id}/certificate: a new certificate for a host that has one.

    A host whose certificate the manager no longer accepts sends it as `former`, and signs the request with its key.
    """

    certificate_request: str = Field(min_length=1, max_length=4096, description="PKCS #10, PEM")
    former: str = Field(default="", max_length=8192, description="PEM")
    signature: str = Field(default="", max_length=256, description="of `certificate_request`: ECDSA with SHA-256, base64")


class HostTokens(BaseModel):
    """POST /v1/hosts/{host_id}/tokens. The former tokens end with the first request that uses the new `agent_token`."""

    agent_token: str
    command_token: str


class HostCertificate(BaseModel):
    """`certificate`: of the agent; `authority`: all authorities to trust from now on. Both PEM."""

    certificate: str
    authority: str


class Heartbeat(BaseModel):
    """`certificate`: SHA-256 of the agent's certificate; `authority`: of all authorities that it trusts, as in
    `tls.pinning.fingerprint`. Both are empty without a certificate, and from an agent that cannot rotate."""

    version: Name
    boot_id: Name
    capacity: HostCapacity
    vms_running: int = Field(default=0, ge=0, lt=2**31)
    certificate: str = Field(default="", max_length=64)
    authority: str = Field(default="", max_length=64)


class HostRotation(BaseModel):
    """How far a host is. `authority`: it trusts the same authorities as the manager; `certificate`, `tokens`: it uses the
    newest ones."""

    name: str
    state: HostState
    authority: bool
    certificate: bool
    tokens: bool


class Rotation(BaseModel):
    """GET /v1/rotation. `trusted`: SHA-256 of all trusted authorities; `signer`: of the one that signs. Empty without TLS."""

    trusted: str = ""
    signer: str = ""
    hosts: list[HostRotation] = []


class Host(BaseModel):
    id: str
    name: str
    state: HostState
    url: str
    version: str
    boot_id: str
    vmm: str
    accel: str
    kvm: bool
    cordoned: bool = False
    capacity: HostCapacity
    network: HostNetwork
    vms: int = 0
    unknown_vms: list[UnknownVm] = Field(default=[], description="it has them, and no record tells of them")
    conflict: str = Field(default="", description="two machines report as this host: what to do, and nothing is done there")
    last_seen_at: datetime | None = None
    created_at: datetime


class HostList(BaseModel):
    items: list[Host]
    total: int

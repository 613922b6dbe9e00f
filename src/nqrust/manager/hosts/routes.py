"""Hosts and their agents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from nqrust.contract.agent import GuestReportForward
from nqrust.contract.auth import JoinToken, JoinTokenCreate
from nqrust.contract.hosts import (
    CertificateRenewal,
    Heartbeat,
    Host,
    HostCertificate,
    HostList,
    HostRegister,
    HostRegistered,
    HostTokens,
    Rotation,
)
from nqrust.loopback import is_loopback
from nqrust.manager.access.guards import Admin, CoreDep, Joining, Operator, OwnHost, Viewer
from nqrust.manager.hosts import certificates, joining, rotation
from nqrust.manager.hosts import service as hosts
from nqrust.manager.vms import service as vms
from nqrust.serving import sources
from nqrust.tls import pinning
from nqrust.tls.pinning import AuthorityFound

router = APIRouter(prefix="/v1/hosts", tags=["hosts"])
first_contact = APIRouter(tags=["hosts"])
rotations = APIRouter(prefix="/v1/rotation", tags=["hosts"])


@first_contact.get(pinning.PATH)
async def authority(core: CoreDep, host: str = "", nonce: str = "") -> AuthorityFound:
    """Return the certificate authority of this installation. No authentication: the caller compares its fingerprint."""
    return await certificates.authority(core, host, nonce)


@router.get("")
async def list_hosts(core: CoreDep, _: Viewer) -> HostList:
    return await hosts.list_hosts(core)


@router.post("/join-tokens", status_code=201)
async def create_join_token(core: CoreDep, who: Admin, body: JoinTokenCreate) -> JoinToken:
    """Create a token with which the agent of one host registers once."""
    return await joining.create_token(core, body, who)


@router.get("/join-check", status_code=204)
async def join_check(
    core: CoreDep, who: Joining, request: Request, name: Annotated[str | None, Query(max_length=253)] = None
) -> None:
    """Check whether this join token is accepted from this address, and for a host `name`. Does not use it up."""
    await joining.check_token(core, who, name, _same_machine(request))


@router.post("/register")
async def register(core: CoreDep, who: Joining, request: Request, body: HostRegister) -> HostRegistered:
    """Register: a join token returns new credentials, an agent's own token registers the same host again."""
    source = str(request.state.source)
    return await joining.register(core, body, who, source, _same_machine(request))


@router.get("/{host}")
async def get_host(core: CoreDep, _: Viewer, host: str) -> Host:
    """Return a host by id or name."""
    return await hosts.get_host(core, host)


@router.delete("/{host}", status_code=204)
async def delete_host(core: CoreDep, _: Admin, host: str, force: bool = False) -> None:
    """Delete a host. `force`: also with VMs on it, only if the machine is permanently gone."""
    await hosts.delete_host(core, host, force)


@router.post("/{host}/cordon")
async def cordon(core: CoreDep, _: Operator, host: str) -> Host:
    """Place no new VMs there."""
    return await hosts.cordon(core, host, True)


@router.post("/{host}/uncordon")
async def uncordon(core: CoreDep, _: Operator, host: str) -> Host:
    """Allow new VMs there again, and start the VMs that a drain stopped."""
    return await hosts.cordon(core, host, False)


@router.post("/{host}/drain")
async def drain(core: CoreDep, who: Operator, host: str) -> Host:
    """Cordon, and stop every VM there."""
    return await hosts.drain(core, host, who.name)


@router.post("/{host_id}/heartbeat")
async def heartbeat(core: CoreDep, _: OwnHost, host_id: str, request: Request, body: Heartbeat) -> HostRegistered:
    return await hosts.heartbeat(core, host_id, body, str(request.state.source))


@router.post("/{host_id}/certificate")
async def renew_certificate(
    core: CoreDep, who: OwnHost, host_id: str, request: Request, body: CertificateRenewal
) -> HostCertificate:
    """Return a new certificate for a host's agent."""
    return await certificates.renew(core, host_id, body, who, shown=not getattr(request.state, "without_certificate", False))


@router.post("/{host_id}/tokens")
async def renew_tokens(core: CoreDep, who: OwnHost, host_id: str) -> HostTokens:
    """Return new tokens for a host's agent, which replace its former ones as soon as it uses them."""
    return await rotation.new_tokens(core, host_id, who)


@router.post("/{host_id}/vms/{vm_id}/guest", status_code=204)
async def guest(core: CoreDep, _: OwnHost, host_id: str, vm_id: str, body: GuestReportForward) -> None:
    """Accept a guest agent's report from its host."""
    await vms.guest_report(core, host_id, vm_id, body)


@rotations.get("")
async def get_rotation(core: CoreDep, _: Admin) -> Rotation:
    """Return which hosts have the newest secrets."""
    return await rotation.state(core)


@rotations.post("/certificates")
async def rotate_certificates(core: CoreDep, _: Admin) -> Rotation:
    """Replace the certificates of the manager, the web UI and the agents. Connections and VMs stay."""
    return await rotation.certificates(core)


@rotations.post("/tokens")
async def rotate_tokens(core: CoreDep, _: Admin) -> Rotation:
    """Replace the tokens of all hosts. API tokens of users stay."""
    return await rotation.tokens(core)


def _same_machine(request: Request) -> bool:
    """Return whether the client is root on this machine: it connects from loopback, or from the connection's own target address.
    A reverse proxy connects from there for other machines."""
    source = str(request.state.origin.peer)
    server = request.scope.get("server") or ("", 0)
    return (is_loopback(source) or source == server[0]) and sources.is_roots(request.scope)

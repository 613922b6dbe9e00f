"""How hosts join: tokens for one host name, and registration with them.

A token is used once. The manager accepts it a second time only if the agent died before it stored the answer: from the same
address and the same boot of the host, within ten minutes, and only until the first request with the new credentials.
"""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import IPv6Address, ip_address
from uuid import UUID, uuid4

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust import loopback
from nqrust.contract.auth import JoinToken as ApiJoinToken
from nqrust.contract.auth import JoinTokenCreate
from nqrust.contract.credentials import hash_token, new_token
from nqrust.contract.hosts import HostRegister, HostRegistered, HostState
from nqrust.manager import events
from nqrust.manager.access import rights
from nqrust.manager.audit import about
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.liveness import host_state
from nqrust.manager.core.principal import Principal
from nqrust.manager.errors import Conflict, Invalid, NotAuthenticated
from nqrust.manager.hosts import certificates
from nqrust.manager.hosts.service import HEARTBEAT_SECONDS, LOCK, describe, note_boot, note_return
from nqrust.manager.store.tables import Host, JoinToken, Token
from nqrust.tls import pinning

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_ADDRESS = re.compile(r"https?://(\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})/?")
_LABEL = re.compile(r"(?!xn--)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.IGNORECASE)
"""Without the form of other scripts (RFC 5890): HTTP clients refuse most of those that are made up."""
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
"""`127.1` and `0x7f.1` are 127.0.0.1: inet_aton(3)."""
_SECOND_TRY = timedelta(minutes=10)


async def create_token(core: Core, wanted: JoinTokenCreate, creator: Principal) -> ApiJoinToken:
    """Create the join token of a host. Unused tokens of the same name end. Raises Invalid, Conflict (the host exists)."""
    about(new=wanted.host)
    _check_name(wanted.host)
    secret = new_token()
    expires_at = now() + timedelta(seconds=wanted.ttl_seconds)
    async with core.db.transaction() as session:
        await rights.hold(session, creator)
        with_ = await session.get(Token, creator.token_id) if creator.kind == "token" else None
        if with_ is not None and with_.expires_at is not None:
            expires_at = min(expires_at, with_.expires_at)  # a stolen token makes nothing that outlives it
        if not wanted.replace and await session.scalar(select(Host.id).where(Host.name == wanted.host)):
            raise _taken(wanted.host)
        await session.execute(
            delete(JoinToken).where(
                JoinToken.reusable.is_(False), JoinToken.host_name == wanted.host, JoinToken.used_at.is_(None)
            )
        )
        session.add(
            JoinToken(
                id=str(uuid4()),
                sha256=hash_token(secret),
                host_name=wanted.host,
                replace=wanted.replace,
                user_id=creator.user_id,
                created_by=creator.name,
                expires_at=expires_at,
                reusable=False,
            )
        )
    token = pinning.join(secret, core.trust.signing) if core.trust else secret
    return ApiJoinToken(token=token, host=wanted.host, replace=wanted.replace, expires_at=expires_at)


async def register(core: Core, wanted: HostRegister, principal: Principal, source: str, same_machine: bool) -> HostRegistered:
    """Register a new host with a join token, or a known one again with its own token.

    `same_machine`: the request comes from the manager's machine. Raises NotAuthenticated for a join token that is used up,
    expired, for another host or not valid from there; Conflict if the name belongs to a host that the token may not replace.
    """
    about(new=wanted.name)
    _check_name(wanted.name)
    _check_url(wanted.advertise_url, same_machine)
    try:
        async with core.db.transaction() as session:
            if principal.kind == "agent":
                return await _again(core, session, wanted, principal, source)
            join = await session.get(JoinToken, principal.join_id, with_for_update=True)
            host = await session.scalar(select(Host).where(Host.name == wanted.name).with_for_update(key_share=True))
            _check(join, wanted.name, same_machine)
            assert join is not None
            if join.used_at is not None and not _second_try(join, host, wanted, source):
                raise _refused("This join token is already used.")
            if host and not join.reusable and join.used_at is None:
                _check_takeover(core, join, host)
            return await _join(core, session, wanted, join, host, source)
    except IntegrityError as error:
        raise Conflict(f"A host named {wanted.name} registered at the same moment.") from error


async def _again(core: Core, session: AsyncSession, wanted: HostRegister, principal: Principal, source: str) -> HostRegistered:
    host = await session.get(Host, principal.host_id, with_for_update=LOCK)
    if host is None:
        raise NotAuthenticated(
            "The manager does not know this host any more.", cure="Join again with a token from `nqr host token NAME`."
        )
    if wanted.name != host.name:
        raise Conflict(
            f"Host {host.name} cannot become host {wanted.name}.",
            cure=f"Set --agent-name {host.name} again, or join as a new host with a token from `nqr host token {wanted.name}`.",
            code="NQR-API-151",
        )
    rights.check_agent(host, principal)
    note_boot(core, session, host, wanted.boot_id, source, wanted.advertise_url)
    note_return(session, host)
    describe(host, wanted)
    signed = certificates.answer(core, host, wanted, joins=False)
    return HostRegistered(host_id=host.id, heartbeat_seconds=HEARTBEAT_SECONDS, **signed)


async def _join(
    core: Core, session: AsyncSession, wanted: HostRegister, join: JoinToken, host: Host | None, source: str
) -> HostRegistered:
    agent_token, command_token = new_token(), new_token()
    replaced = host is not None and join.replace and join.used_at is None
    if host is None:
        host = Host(id=str(uuid4()), name=wanted.name, capacity={}, network={})
        session.add(host)
    host.agent_token_sha256 = hash_token(agent_token)
    host.command_token = command_token
    host.next_agent_token_sha256, host.next_command_token, host.tokens_at = None, None, now()
    host.boots = {}  # a machine with the former token can no longer report
    describe(host, wanted)
    signed = certificates.answer(core, host, wanted, joins=True)
    await session.flush()
    if not join.reusable:
        # The same moment as in `describe`: any later sign of life proves that the agent has its credentials.
        join.used_at, join.used_from, join.host_id = host.last_seen_at, source, host.id
    message = f"Host {host.name} joined from {source}: {wanted.vmm} on {wanted.accel}."
    if replaced:
        message += f" It replaces the earlier host of that name, as {events.name_of(join.created_by)} allowed."
    events.record(session, host, "HostRegistered", message, "warning" if replaced else "info")
    core.wake.set()
    return HostRegistered(
        host_id=host.id, agent_token=agent_token, command_token=command_token, heartbeat_seconds=HEARTBEAT_SECONDS, **signed
    )


async def check_token(core: Core, principal: Principal, name: str | None, same_machine: bool) -> None:
    """Check whether `register` would accept this token for host `name`. Changes nothing.

    Raises NotAuthenticated, Conflict.
    """
    if principal.kind != "join":
        return
    async with core.db.transaction() as session:
        join = await session.get(JoinToken, principal.join_id)
        _check(join, name, same_machine)
        assert join is not None
        if join.used_at is not None:
            raise _refused("This join token is already used.")
        host = await session.scalar(select(Host).where(Host.name == join.host_name)) if not join.reusable else None
        if host is not None:
            _check_takeover(core, join, host)


def _check(join: JoinToken | None, name: str | None, same_machine: bool) -> None:
    if join is None or (join.expires_at is not None and join.expires_at <= now()):
        raise _refused("This join token has expired.")
    if join.reusable and not same_machine:
        raise _refused("This join token is for the agent on the manager's own machine only.")
    if name is not None and join.host_name is not None and name != join.host_name:
        raise _refused(f"This join token is for host {join.host_name}, not for {name}.")


def _second_try(join: JoinToken, host: Host | None, wanted: HostRegister, source: str) -> bool:
    """Return whether this can be the agent that used the token, and that never received its credentials."""
    return (
        host is not None
        and join.host_id == host.id
        and join.used_at is not None
        and now() - join.used_at < _SECOND_TRY
        and host.last_seen_at == join.used_at
        and (join.used_from, host.boot_id) == (source, wanted.boot_id)
    )


def _check_takeover(core: Core, join: JoinToken, host: Host) -> None:
    if not join.replace:
        raise _taken(host.name)
    if host_state(host.last_seen_at, now(), core.started_at) is HostState.online:
        raise Conflict(
            f"A host named {host.name} is online, so it cannot be replaced.",
            cure="Stop its agent and wait 30 s, or use another --agent-name.",
            code="NQR-API-142",
        )


def _taken(name: str) -> Conflict:
    return Conflict(
        f"There is already a host named {name}.",
        cure=f"Use another name. If the machine was reinstalled, run `nqr host token {name} --replace`.",
        code="NQR-API-142",
    )


def _refused(detail: str) -> NotAuthenticated:
    cure = "Create a new token with `nqr host token NAME` on the manager's machine."
    return NotAuthenticated(detail, cure=cure, code="NQR-API-114")


def _check_name(name: str) -> None:
    """Check the name. URLs find a host by id or name, so a name is neither a path nor another host's id."""
    try:
        UUID(name)
        looks_like_id = True
    except ValueError:
        looks_like_id = False
    if looks_like_id or not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is not a host name.", cure="Use letters, digits, dots and dashes in `nqr install --agent-name`.")


def _check_url(url: str, same_machine: bool) -> None:
    """Check an agent's address. The manager sends the host's token there, and every look at all hosts asks there."""
    found = _ADDRESS.fullmatch(url)
    host = (found["six"] or found["host"]) if found else ""
    if found is None or not 0 < int(found["port"]) < 65536 or not _is_address(host, six=found["six"] is not None):
        raise Invalid(f"advertise_url {url!r} is not http://ADDRESS:PORT.")
    if (loopback.is_local(host.lower()) or _is_unspecified(host)) and not same_machine:
        raise Invalid(
            f"advertise_url {url!r} is not reachable from the manager.",
            cure="Run `nqr install --advertise-address ADDRESS` on that host, with an address that the manager can reach.",
            code="NQR-API-115",
        )


def _is_address(host: str, *, six: bool) -> bool:
    """Return whether `host` is an IP address, or a name that no resolver takes for a number (RFC 1123, 2.1)."""
    try:
        return ip_address(host).version == (6 if six else 4)
    except ValueError:
        labels = host.split(".")
        name = len(host) < 254 and all(_LABEL.fullmatch(label) for label in labels)
        return not six and name and not _NUMBER.fullmatch(labels[-1])


def _is_unspecified(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return ((address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address).is_unspecified

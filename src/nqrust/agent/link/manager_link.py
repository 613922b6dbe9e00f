"""The agent's side of the link to the manager: register, heartbeat, forward guest reports, fetch image files.

The manager may be away for any time: VMs continue to run, and the agent retries with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import datetime, timezone

import httpx
import structlog
from pydantic import ValidationError

from nqrust.agent.errors import Failed
from nqrust.agent.link.channel import Channel
from nqrust.agent.link.credentials import Credentials, CredentialStore, Identity
from nqrust.contract.agent import GuestReportForward
from nqrust.contract.credentials import hash_token
from nqrust.contract.hosts import CertificateRenewal, Heartbeat, HostCertificate, HostRegister, HostRegistered, HostTokens
from nqrust.contract.images import Blob
from nqrust.contract.vms import GuestReport
from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.tls import pinning
from nqrust.tls.pinning import PinningError

log = structlog.get_logger("nqrust.agent")

_FIRST, _LONGEST = 1.0, 15.0  # seconds between attempts
_DOWNLOAD = httpx.Timeout(60.0, connect=5.0)
_PIECE = 1 << 20


class Refused(Exception):
    """The manager's answer was not the expected one."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"HTTP {status}: {detail}")


class ManagerLink:
    """`describe` returns the registration, `beat` the heartbeat. Both read the machine and may block."""

    def __init__(
        self,
        host: Host,
        base: str,
        credentials: CredentialStore,
        join_token_file: str,
        describe: Callable[[], HostRegister],
        beat: Callable[[], Heartbeat],
    ) -> None:
        self._host, self._base, self._credentials = host, base, credentials
        self._join_token_file, self._describe, self._beat = join_token_file, describe, beat
        self.channel = Channel(base, credentials)
        self._pending: dict[str, GuestReportForward] = {}
        self._news, self._changed = asyncio.Event(), asyncio.Event()
        self.registered = False

    async def run(self) -> None:
        """Register, then send heartbeats forever."""
        pause = _FIRST
        while True:
            beat = self.registered
            try:
                await self._turn(beat)
                current = self._credentials.current
                pause, wait = _FIRST, float(current.heartbeat_seconds if current else _FIRST)
                # The first heartbeat comes at once: from then on the manager accepts the join token no more.
                wait = wait if beat else 0.0
            except (httpx.HTTPError, Refused, PinningError, HostError, ValidationError, OSError) as error:
                wait = pause * random.uniform(0.8, 1.2)
                log.warning("manager.unreachable", manager=self._base, why=str(error) or repr(error), retry_s=round(wait, 1))
                pause = min(pause * 2, _LONGEST)
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    async def _turn(self, beat: bool) -> None:
        try:
            await (self._heartbeat() if beat else self._register())
        except httpx.TransportError as error:
            if not (self.channel.secured and self.channel.may_be_outdated(error) and await self._go_over()):
                raise
            await (self._heartbeat() if beat else self._register())

    async def _go_over(self) -> bool:
        """Go over to the manager's new authority, or replace a certificate that has ended: this host was away for long.

        The manager proves its authority with what only the two know, before it learns a secret. This host proves that it has
        the key of its former certificate. Return False if both are up to date. Raises PinningError, Refused, httpx.HTTPError.
        """
        current = self._credentials.current
        if current is None or current.identity is None:
            return False
        try:
            if not await self.channel.ask_for_authority(again=True) or not self.channel.is_outdated():
                return False
            await self._renew(current, former=current.identity)
            return True
        finally:
            self.channel.forget_pin()

    async def _register(self) -> None:
        body = await asyncio.to_thread(self._describe)
        current = self._credentials.current
        if current is not None:
            await self.channel.ask_for_authority()
            try:
                await self._register_with(current.agent_token, body, current)
                return
            except Refused as error:
                if error.status not in (401, 403, 404):
                    raise
                log.warning("manager.credentials_refused", manager=self._base, why=str(error))
        try:
            secret, fingerprint = pinning.split(await asyncio.to_thread(self._join_token))
            if fingerprint:
                await self.channel.pin(fingerprint)
            await self._register_with(secret, body, None)
        except Refused as error:
            if current is None or error.status not in (401, 403, 404, 409):
                raise
            raise Refused(
                error.status,
                f"the manager refuses this host's credentials and its join token. Run `nqr host token {body.name} --replace` on "
                f"the manager's host; it prints the command for this one. ({error})",
            ) from error

    async def _register_with(self, token: str, body: HostRegister, current: Credentials | None) -> None:
        """Register, with a request for a certificate unless there is one that can be kept. `current`: registers again."""
        key = ""
        if current is None or current.identity is None or self.channel.renewal_due():
            key, body.certificate_request = await asyncio.to_thread(_new_request)
        body.advertise_url = self.channel.reached_at(body.advertise_url)
        answer = await self._send("/v1/hosts/register", token, body.model_dump(mode="json"))
        self._keep(HostRegistered.model_validate_json(answer.content), current, key)
        if self.channel.reached_at(body.advertise_url) != body.advertise_url:
            await self._register()  # from now on with the certificate

    def _keep(self, answer: HostRegistered, current: Credentials | None, key: str) -> None:
        agent_token = answer.agent_token or (current.agent_token if current else "")
        command = hash_token(answer.command_token) if answer.command_token else (current.command_token_sha256 if current else "")
        if not agent_token or not command:
            raise Refused(200, "the manager registered this host but sent no credentials")
        identity = current.identity if current else None
        if key and answer.certificate:
            identity = _identity(answer.certificate, answer.authority, key)
        if self.channel.secured and identity is None:
            raise Refused(200, "the manager registered this host but sent no certificate")
        fresh = Credentials(
            host_id=answer.host_id,
            manager=self._base,
            agent_token=agent_token,
            command_token_sha256=command,
            heartbeat_seconds=max(1, answer.heartbeat_seconds),
            identity=identity,
        )
        if fresh != current:
            self._credentials.save(fresh)
        self.channel.forget_pin()
        self.registered = True
        log.info("manager.registered", manager=self._base, host_id=answer.host_id, tls=self.channel.secured)

    async def _renew(self, current: Credentials, former: Identity | None = None) -> None:
        """Replace the certificate by one with a new key. Running VMs and open connections do not notice. `former`: proves this
        host, because the manager may refuse its certificate."""
        key, request = await asyncio.to_thread(_new_request)
        proof = await asyncio.to_thread(_proof, former, request) if former else {}
        body = CertificateRenewal(certificate_request=request, **proof).model_dump(mode="json")
        answer = await self._send(f"/v1/hosts/{current.host_id}/certificate", current.agent_token, body)
        signed = HostCertificate.model_validate_json(answer.content)
        identity = _identity(signed.certificate, signed.authority, key)
        self._credentials.save(current.model_copy(update={"identity": identity}))
        log.info("certificate.renewed", ends=identity.ends.isoformat())

    def _join_token(self) -> str:
        try:
            token = self._host.read_text(self._join_token_file).strip()
        except HostError as error:
            raise Refused(401, f"the join token is missing ({error}); make one with `nqr host token NAME`") from error
        if not token:
            raise Refused(401, f"{self._join_token_file} is empty; make a join token with `nqr host token NAME`")
        return token

    async def _heartbeat(self) -> None:
        current = self._credentials.current
        if current is None:
            self.registered = False
            return
        body = await asyncio.to_thread(self._beat)
        try:
            if await self._beat_with(current, body):
                # At once, so that a rotation need not wait for the next one.
                await self._beat_with(self._credentials.current or current, body)
            elif current.former_command_token_sha256:
                self._credentials.save(current.model_copy(update={"former_command_token_sha256": ""}))
        except Refused as error:
            if error.status in (401, 403, 404):
                self.registered = False
            raise

    async def _beat_with(self, current: Credentials, body: Heartbeat) -> bool:
        """Send a heartbeat and do what its answer asks for. Return whether this host has a new secret."""
        told = body.model_copy(update=self.channel.told())
        answer = await self._send(f"/v1/hosts/{current.host_id}/heartbeat", current.agent_token, told.model_dump(mode="json"))
        wanted = HostRegistered.model_validate_json(answer.content)
        certificate = wanted.renew_certificate or self.channel.renewal_due()
        if certificate:
            await self._renew(current)
        if wanted.renew_tokens:
            await self._renew_tokens(self._credentials.current or current)
        return certificate or wanted.renew_tokens

    async def _renew_tokens(self, current: Credentials) -> None:
        """Replace both tokens. The manager uses the new ones after the next request."""
        answer = await self._send(f"/v1/hosts/{current.host_id}/tokens", current.agent_token, {})
        new = HostTokens.model_validate_json(answer.content)
        change = {
            "agent_token": new.agent_token,
            "command_token_sha256": hash_token(new.command_token),
            "former_command_token_sha256": current.command_token_sha256,
        }
        self._credentials.save(current.model_copy(update=change))
        log.info("tokens.renewed")

    def announce_change(self) -> None:
        """Register again at the next turn, because the registered facts have changed."""
        self.registered = False
        self._changed.set()

    # --- guest reports
    def forward(self, vm_id: str, report: GuestReport) -> None:
        """Forward a report if the manager can be reached. Only the newest report of each VM is kept."""
        self._pending[vm_id] = GuestReportForward(report=report, at=datetime.now(timezone.utc))
        self._news.set()

    async def run_forwarding(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            batch, self._pending = self._pending, {}
            for vm_id, item in batch.items():
                if not await self._pass_on(vm_id, item):
                    self._pending = {**batch, **self._pending}
                    await asyncio.sleep(2.0)
                    self._news.set()
                    break
                batch = {key: value for key, value in batch.items() if key != vm_id}

    async def _pass_on(self, vm_id: str, item: GuestReportForward) -> bool:
        """Return False if it is worth another try."""
        current = self._credentials.current
        if current is None:
            return True
        path = f"/v1/hosts/{current.host_id}/vms/{vm_id}/guest"
        try:
            await self._send(path, current.agent_token, item.model_dump(mode="json"))
        except Refused as error:
            if error.status == 401 and self._credentials.current != current:
                return False  # the token was replaced meanwhile
            log.info("guest.report_refused", vm=vm_id, why=str(error))
        except (httpx.HTTPError, OSError):
            return False
        except ValueError as error:  # it cannot be sent, and must not block the others
            log.warning("guest.report_unfit", vm=vm_id, why=str(error))
        return True

    # --- images
    def fetch(self, image: str, blob: Blob, path: str) -> None:
        """Download a file of an image into `path`. Blocking; raises Failed."""
        current = self._credentials.current
        where = f"/v1/images/{image}/blobs/{blob.file}"
        if current is None:
            raise Failed(
                "NQR-IMG-101",
                f"{blob.file} of image {image} is not on this host, and the agent is not registered.",
                "Register the agent with a manager that has the image, or put it below the image folder.",
                status=503,
            )
        headers = {"Authorization": f"Bearer {current.agent_token}", "Accept-Encoding": "identity"}
        try:
            with (
                self.channel.blocking_client(_DOWNLOAD) as client,
                client.stream("GET", where, headers=headers) as answer,
            ):
                if answer.status_code != 200:
                    raise Refused(answer.status_code, answer.reason_phrase)
                size = 0
                with open(path, "wb") as file:
                    for piece in answer.iter_raw(_PIECE):
                        size += len(piece)
                        if size > blob.size:
                            raise Refused(200, "the file is larger than announced")
                        file.write(piece)
        except (httpx.HTTPError, OSError, Refused) as error:
            raise Failed(
                "NQR-IMG-101",
                f"{blob.file} of image {image} could not be fetched from the manager ({error}).",
                "Check that the manager runs and has the image (`nqr image ls`).",
                status=502,
            ) from error

    async def _send(self, path: str, token: str, body: object) -> httpx.Response:
        answer = await self.channel.client().post(path, json=body, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code >= 300:
            raise Refused(answer.status_code, answer.text[:200])
        return answer


def _new_request() -> tuple[str, str]:
    """Return a new key and a certificate request for it."""
    from nqrust.tls import authority  # needed once in 60 days; `cryptography` takes 8 MiB

    key = authority.new_key()
    return key, authority.new_request(key)


def _proof(former: Identity, request: str) -> dict[str, str]:
    """Return the part of a renewal that proves this host with the key of its former certificate."""
    from nqrust.tls import authority

    return {"former": former.certificate, "signature": authority.sign_text(former.key, request)}


def _identity(certificate: str, trusted: str, key: str) -> Identity:
    """Return the identity from the manager's answer. Raises Refused if it is not for this key."""
    from nqrust.tls import authority

    try:
        if authority.belongs(certificate, key):
            trusted = "".join(pinning.certificates(trusted))
            return Identity(certificate=certificate, key=key, authority=trusted, ends=authority.expires_at(certificate))
    except (authority.CertificateError, PinningError) as error:
        raise Refused(200, f"the manager's answer holds no certificate: {error}") from error
    raise Refused(200, "the manager sent a certificate for another key")

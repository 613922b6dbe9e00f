"""Step: wait until the manager and its hosts use new secrets. The manager reads its files again without a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ValidationError

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied

if TYPE_CHECKING:
    from nqrust.contract.hosts import HostRotation, Rotation

Kind = Literal["certificate", "authority", "tokens"]
"""A field of HostRotation."""
_ASKED: dict[str, str] = {"certificate": "certificates", "tokens": "tokens"}
_TIMEOUT = 10.0  # seconds, like every time here
_POLL = 1.0
_READS_AGAIN = 30.0
"""The manager notices a changed file within seconds."""


class _Answer(Exception):
    """The manager did not answer as expected. Its text says how."""


@dataclass(frozen=True)
class RotationApi:
    """The manager of this host: its base URL, and the file with a token for it."""

    url: str
    token_file: str

    def state(self, host: Host) -> Rotation:
        """Return how far the hosts are. Raises _Answer."""
        return self._send(host, "GET", "/v1/rotation")

    def answers(self, host: Host) -> None:
        """Raise HostError unless the manager answers and knows rotations. An interrupted one may have left another token."""
        try:
            status, _ = self._ask(host, "GET", "/v1/rotation")
        except _Answer as error:
            raise HostError(str(error)) from error
        if status not in (200, 401):
            raise HostError(f"it answered {status}")

    def begin(self, host: Host, what: str) -> Rotation:
        """Make the manager replace `what`. Raises _Answer."""
        return self._send(host, "POST", f"/v1/rotation/{what}")

    def behind(self, host: Host) -> tuple[str, ...]:
        """Return the names of hosts with former secrets; none if the manager does not answer."""
        try:
            found = self.state(host)
        except _Answer:
            return ()
        return tuple(one.name for one in found.hosts if not (one.authority and one.certificate and one.tokens))

    def _ask(self, host: Host, method: str, path: str) -> tuple[int, bytes]:
        try:
            headers = {"Authorization": Secret(f"Bearer {host.read_text(self.token_file).strip()}")}
            if method == "GET":
                return host.http_get(self.url + path, headers=headers, timeout=_TIMEOUT)
            return host.http_send(method, self.url + path, headers=headers, timeout=_TIMEOUT)
        except HostError as error:
            raise _Answer(str(error)) from error

    def _send(self, host: Host, method: str, path: str) -> Rotation:
        from nqrust.contract.hosts import Rotation

        status, body = self._ask(host, method, path)
        if status != 200:
            raise _Answer(f"it answered {status}")
        try:
            return Rotation.model_validate_json(body)
        except ValidationError as error:
            raise _Answer("its answer cannot be read") from error


def waited_for(hosts: list[HostRotation]) -> list[HostRotation]:
    """Return the hosts that a rotation waits for. The others go over when they are back."""
    from nqrust.contract.hosts import HostState

    return [one for one in hosts if one.state is not HostState.offline]


@dataclass(frozen=True)
class HostsFollow:
    """Wait until each host that is not offline has what `kind` names. `begins`: the manager asks them first, in each run.

    `trusted`, `signer`: fingerprints that the manager itself must have by then; empty: any. `seconds`: the limit.
    """

    kind: ClassVar[str] = "rotation"

    name: str
    api: RotationApi
    needs: Kind
    text: str
    begins: bool = False
    trusted: str = ""
    signer: str = ""
    seconds: float = 300.0
    progress: Progress = field(default=silent, compare=False, repr=False)

    @property
    def id(self) -> str:
        return f"rotation:{self.name}"

    def describe(self) -> str:
        return self.text

    def inspect(self, host: Host) -> Inspection:
        if self.begins:
            return Needed((self.text,))
        try:
            found = self.api.state(host)
        except _Answer:
            return Needed((self.text,))
        return Satisfied() if self._manager_fits(found) and not self._missing(found) else Needed((self.text,))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.adopted, ())

    def apply(self, host: Host) -> None:
        began = host.monotonic()
        if self.begins:
            self._begin(host)
        while True:
            why, found = "", None
            try:
                found = self.api.state(host)
            except _Answer as error:
                why = str(error)
            waited = host.monotonic() - began
            if found is not None and self._manager_fits(found):
                missing = self._missing(found)
                if not missing:
                    return
                if waited > self.seconds:
                    raise self._too_late(missing)
                self.progress(f"waiting for {', '.join(missing)}", min(1.0, waited / self.seconds))
            elif waited > _READS_AGAIN:
                raise _no_answer(why or "it still uses the former files")
            host.sleep(_POLL)

    def verify(self, host: Host) -> None:
        """Do nothing: `apply` returns only once all have it."""

    def _begin(self, host: Host) -> None:
        began = host.monotonic()
        while True:
            try:
                self.api.begin(host, _ASKED[self.needs])
                return
            except _Answer as error:
                if host.monotonic() - began > _READS_AGAIN:
                    raise _no_answer(str(error)) from error
            host.sleep(_POLL)

    def _manager_fits(self, found: Rotation) -> bool:
        return self.trusted in ("", found.trusted) and self.signer in ("", found.signer)

    def _missing(self, found: Rotation) -> list[str]:
        return [one.name for one in waited_for(found.hosts) if not getattr(one, self.needs)]

    def _too_late(self, missing: list[str]) -> StepFailed:
        return StepFailed(
            "NQR-SVC-111",
            f"After {self.seconds:g} s, these hosts have not followed the rotation: {', '.join(missing)}.",
            "See `nqr logs agent` on these hosts, and upgrade older agents. Then run the same command again; it continues.",
        )


def _no_answer(why: str) -> StepFailed:
    return StepFailed(
        "NQR-SVC-110",
        f"The manager of this host did not take part in the rotation: {why.rstrip('.')}.",
        "Check that it runs and has the version of this nqr (`nqr status`), then run the same command again; it continues.",
    )

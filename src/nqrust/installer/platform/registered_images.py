"""Step: register the images built into the manager's image folder.

A manager scans that folder when it starts. It does not notice images built while it runs, so this step requests a scan (`POST
/v1/images/scan`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ValidationError

from nqrust.contract.images import MANIFEST, ImageManifest
from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied

_TIMEOUT = 10.0  # seconds, like every time here
_SCAN = 600.0  # the manager reads every new file once for its digest
_BUSY = 30.0
_POLL = 1.0


@dataclass(frozen=True)
class Registry:
    """A manager on this host: its base URL, and the file with a token for it."""

    url: str
    token_file: str

    def image(self, name: str) -> str:
        return f"{self.url}/v1/images/{name}"

    def headers(self, host: Host) -> dict[str, str | Secret] | None:
        """Return the headers, or None without a token: then no manager of this installation has started yet."""
        try:
            return {"Authorization": Secret(f"Bearer {host.read_text(self.token_file).strip()}")}
        except HostError:
            return None


@dataclass(frozen=True)
class RegisteredImages:
    """Register `names`, images in `image_dir`. `when`: the phase of this step, so that each phase has its own. `BuiltImage`
    has the undo records for registrations, because the folder must go first."""

    kind: ClassVar[str] = "registered-images"

    registry: Registry
    image_dir: str
    names: tuple[str, ...]
    when: str

    @property
    def id(self) -> str:
        return f"registered-images:{self.when}"

    def describe(self) -> str:
        return f"register {' and '.join(self.names)} with the manager"

    def inspect(self, host: Host) -> Inspection:
        headers = self.registry.headers(host)
        if headers is None:
            return Satisfied("the manager registers its images when it starts")
        wrong = []
        for name in self.names:
            try:
                status, body = host.http_get(self.registry.image(name), headers=headers, timeout=_TIMEOUT)
            except HostError:
                return Satisfied("the manager registers its images when it starts")
            if self._on_disk(host, name) is None or not self._fits(host, name, status, body):
                wrong.append(f"+ image {name} in the manager's registry")
        return Needed(tuple(wrong)) if wrong else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.modified, ())

    def apply(self, host: Host) -> None:
        waited = 0.0
        while True:
            status, body = self._scan(host)
            # A manager returns 503 for a moment after its database has restarted, and 401 until it has read a new token.
            if (status < 500 and status != 401) or waited >= _BUSY:
                break
            host.sleep(_POLL)
            waited += _POLL
        if status != 200:
            raise _refused(f"it answered {status}{_detail(body)}")

    def verify(self, host: Host) -> None:
        headers = self.registry.headers(host) or {}
        for name in self.names:
            try:
                status, body = host.http_get(self.registry.image(name), headers=headers, timeout=_TIMEOUT)
            except HostError as error:
                raise _refused(str(error)) from error
            if not self._fits(host, name, status, body):
                said = _document(body)
                state = f"{said.get('state', f'HTTP {status}')}{_detail(body)}"
                raise StepFailed(
                    "NQR-IMG-131",
                    f"The manager does not accept the image {name} in {self.image_dir}/{name}: {state}.",
                    "Build it again with `nqr image build " + name + "`, then run the same command again.",
                )

    def _scan(self, host: Host) -> tuple[int, bytes]:
        try:
            return host.http_send(
                "POST", f"{self.registry.url}/v1/images/scan", headers=self.registry.headers(host) or {}, timeout=_SCAN
            )
        except HostError as error:
            raise _refused(str(error)) from error

    def _on_disk(self, host: Host, name: str) -> ImageManifest | None:
        try:
            return ImageManifest.model_validate_json(host.read_bytes(f"{self.image_dir}/{name}/{MANIFEST}"))
        except (HostError, ValidationError):
            return None

    def _fits(self, host: Host, name: str, status: int, body: bytes) -> bool:
        """Return whether the manager has exactly the image on disk, ready for VMs."""
        said = _document(body)
        if status != 200 or said.get("state") != "ready":
            return False
        try:
            return ImageManifest.model_validate(said.get("manifest")) == self._on_disk(host, name)
        except ValidationError:
            return False


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _detail(body: bytes) -> str:
    said = _document(body)
    text = str(said.get("error") or said.get("detail") or "").rstrip(".")
    return f" ({text})" if text else ""


def _refused(why: str) -> StepFailed:
    return StepFailed(
        "NQR-IMG-130",
        f"The manager did not register the images of this host: {why.rstrip('.')}.",
        "Check the manager (nqr logs manager) and its token (nqr image ls), then run the same command again.",
    )

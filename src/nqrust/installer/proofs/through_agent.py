"""A canary through this host's agent: a worker node has no right to request VMs from the manager."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeVar

from nqrust.client.agent import AgentClient, AgentUnreachable
from nqrust.client.errors import AgentClientError
from nqrust.contract import credentials, names
from nqrust.contract.agent import ImageRef, VmSpec, VmStatus
from nqrust.contract.images import MANIFEST, ImageManifest
from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.proofs.canary import Seen, described, forsaken, name_of_mine

T = TypeVar("T")


@dataclass
class AgentsCanary:
    """`url` and `token_file` of the local agent. `image`: folder of the image to boot. `addresses`: first and last address of
    the range; None in bridged mode. The canary takes the last address that no VM of this host has. `note`: what the proof adds to the VMM's name."""

    host: Host
    url: str
    token_file: str
    image: str
    addresses: tuple[str, str] | None
    note: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: bool = False

    def start(self) -> None:
        manifest = ImageManifest.model_validate(json.loads(self.host.read_text(f"{self.image}/{MANIFEST}")))
        shared = set(ImageRef.model_fields) & set(ImageManifest.model_fields)
        spec = VmSpec(
            id=self.id,
            name=name_of_mine(),
            vcpus=1,
            memory_mib=max(128, manifest.min_memory_mib),
            disk_mib=max(32, manifest.min_disk_mib),
            image=ImageRef(**{name: getattr(manifest, name) for name in shared}),
            mac=names.mac_address(self.id),
            tap=names.tap_name(self.id),
            ip=self._free_address(),
            guest_token=credentials.new_token(),
            tags=[names.CANARY_TAG],
        )
        self.started = True
        self._ask(lambda client: client.put_vm(spec))

    def _free_address(self) -> str | None:
        if self.addresses is None:
            return None
        taken = {vm.ip for vm in self._ask(lambda client: client.inventory()).vms}
        first, last = (int(IPv4Address(one)) for one in self.addresses)
        free = (str(IPv4Address(n)) for n in range(last, first - 1, -1))
        return next((one for one in free if one not in taken), self.addresses[1])

    def look(self) -> Seen:
        status: VmStatus | None = self._ask(lambda client: client.get_vm(self.id))
        if status is None:
            return Seen("failed", "the agent no longer knows it")
        vmm = ", ".join(filter(None, (described(status.vmm, status.accel), self.note)))
        # The agent reports every VM that does not run as stopped or failed. Both are failures of a canary.
        state = "failed" if status.state in ("failed", "stopped") else status.state
        return Seen(state, status.exit_reason, status.tap or "", True, vmm, status.guest)

    def console(self) -> str:
        try:
            return self._ask(lambda client: client.console_log(self.id))
        except AgentClientError:
            return ""

    def remove(self) -> str:
        if not self.started:
            return ""
        try:
            self._ask(lambda client: client.delete_vm(self.id))
        except AgentClientError as error:
            return str(error)
        return ""

    def clear(self) -> str:
        async def clear(client: AgentClient) -> None:
            for vm in (await client.inventory()).vms:
                if forsaken(vm.name, vm.tags):
                    await client.delete_vm(vm.id)

        try:
            self._ask(clear)
        except AgentClientError as error:
            return str(error)
        return ""

    def _ask(self, verb: Callable[[AgentClient], Awaitable[T]]) -> T:
        try:
            token = self.host.read_text(self.token_file).strip()
        except HostError as error:
            raise AgentUnreachable(self.url, f"its local token cannot be read ({error})") from error

        async def asked() -> T:
            async with AgentClient(self.url, token, timeout=20.0) as client:
                return await verb(client)

        return asyncio.run(asked())

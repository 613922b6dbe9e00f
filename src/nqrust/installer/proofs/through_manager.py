"""A canary through the manager, on the same path as a user's VM."""

from __future__ import annotations

from dataclasses import dataclass, field

from nqrust.client import calls
from nqrust.client.errors import ClientError
from nqrust.client.manager import ManagerClient
from nqrust.contract.names import CANARY_TAG
from nqrust.contract.vms import VmCreate, VmState
from nqrust.host.port import Host
from nqrust.installer.proofs.canary import Seen, described, forsaken, name_of_mine


@dataclass
class ManagersCanary:
    """`here`: the registered name of this host's agent, on which the manager places the canary."""

    host: Host
    client: ManagerClient
    here: str
    name: str = field(default_factory=name_of_mine)
    id: str = ""

    def start(self) -> None:
        wanted = VmCreate(
            name=self.name, image="tiny", vcpus=1, memory_mib=128, autostart=False, host=self.here, tags=[CANARY_TAG]
        )
        self.id = self.client.send(calls.create_vm(wanted)).id

    def look(self) -> Seen:
        vm = self.client.send(calls.get_vm(self.id))
        found = next((h for h in self.client.send(calls.list_hosts()).items if h.id == vm.host_id), None)
        vmm = described(found.vmm, found.accel) if found else "a VMM"
        # The manager starts a stopped VM with an error later, as on a full disk. The canary's run does not wait for that.
        state = "failed" if vm.state is VmState.stopped and vm.error else vm.state.value
        return Seen(state, vm.error, vm.tap, vm.host == self.here, vmm, vm.guest)

    def console(self) -> str:
        try:
            return self.client.send(calls.console_log(self.id))
        except ClientError:
            return ""

    def remove(self) -> str:
        if not self.id:
            return ""
        try:
            return self._delete(self.id)
        except ClientError as error:
            return str(error)

    def clear(self) -> str:
        try:
            vms = self.client.send(calls.list_vms()).items
            left = [vm.id for vm in vms if vm.host in (self.here, None) and forsaken(vm.name, vm.tags)]
            return "; ".join(filter(None, (self._delete(id) for id in left)))
        except ClientError as error:
            return str(error)

    def _delete(self, id: str) -> str:
        self.client.send(calls.delete_vm(id, force=True))
        for _ in range(120):
            if all(vm.id != id for vm in self.client.send(calls.list_vms()).items):
                return ""
            self.host.sleep(0.5)
        return "it did not go within a minute"

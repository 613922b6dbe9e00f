"""The agent's own API (`/agent/v1`), spoken by the manager with the host's command token as bearer.

All verbs are idempotent: asking twice for the same VM and generation is the same as asking once. Stop, pause, resume and the
verbs of snapshots take `?generation=N`. The host keeps the newest generation that it was told and refuses older ones (409).

    GET    /agent/v1/health              open: AgentHealth
    GET    /agent/v1/inventory           Inventory
    PUT    /agent/v1/vms/{id}            VmSpec -> VmStatus   make it exist and run; volumes come and go while it does not
    GET    /agent/v1/vms/{id}            VmStatus (404 when neither disk nor scope is here)
    GET    /agent/v1/vms/{id}/record     VmDocument: all that a manager without a record of the VM needs to adopt it
    POST   /agent/v1/vms/{id}/stop       StopRequest -> VmStatus
    POST   /agent/v1/vms/{id}/pause|resume             -> VmStatus
    PUT    /agent/v1/vms/{id}/snapshots/{name}          -> SnapshotFound   of its disks; with memory where it runs and can
    POST   /agent/v1/vms/{id}/snapshots/{name}/restore  -> VmStatus        of a VM that does not run
    DELETE /agent/v1/vms/{id}/snapshots/{name}          204
    DELETE /agent/v1/vms/{id}            204: scope, TAP, reservation, lease and disk are gone
    GET    /agent/v1/vms/{id}/console    WebSocket: bytes both ways; several viewers at once
    GET    /agent/v1/vms/{id}/exec       WebSocket: a session in the guest, see contract.guest
    GET    /agent/v1/vms/{id}/console/log  text/plain: what the serial port said so far
    DELETE /agent/v1/volumes/{name}      204: a kept volume and what is in it are gone
    DELETE /agent/v1/taps/{name}         204: an orphan TAP is removed (refused with 409 while a VM holds it)

Guest-facing listener, on the bridge address only, with the VM's own token as bearer, bodies up to 8 KiB:

    POST   /v1/vms/{id}/guest-ip         GuestReport -> 204
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from nqrust.contract.images import Blob
from nqrust.contract.text import one_line, word
from nqrust.contract.user_data import UserData
from nqrust.contract.vms import (
    DEVICE_PATTERN,
    NAME_PATTERN,
    VM_ID_PATTERN,
    Address,
    Amount,
    GuestReport,
    GuestUser,
    Ipv4,
    LastReport,
    Mac,
    Moment,
    Name,
    Named,
    NetworkConfig,
    OneLine,
    PortForward,
    Shown,
    SnapshotFound,
    Tap,
    VmKept,
    VmLimits,
    VmSized,
    Volume,
)
from nqrust.contract.volumes import KeptVolume


class AgentHealth(BaseModel):
    """Upstream's agent has `version`, `kvm`, `time` only; nqr adds the rest."""

    version: Name
    kvm: bool
    time: Moment
    status: Name = "ok"
    vmm: Name = ""
    accel: Name = ""
    registered: bool = False


class ImageRef(BaseModel):
    """The image of a VM's disk. The agent uses its own copy below IMAGE_DIR if the sha256 matches.

    Otherwise it downloads `GET {manager}/v1/images/{name}/blobs/{file}` with its agent token.
    """

    name: Name
    rootfs: Blob
    rootfs_type: Name = "ext4"
    kernel: Blob
    kernel_elf: Blob | None = None
    initrd: Blob | None = None
    cmdline: str = Field(default="", max_length=65_536)
    root_device: Name = "/dev/vda"

    @property
    def boot_files(self) -> list[Blob]:
        return [blob for blob in (self.kernel, self.kernel_elf, self.initrd) if blob]


REBOOTED = "The guest rebooted."
"""An exit reason."""
ADDRESS_TAKEN = "NQR-NET-709"
"""Code of an agent's answer: another VM of the host has that address."""
DISK_MISSING = "NQR-VMM-142"
"""Code of an agent's answer: the disk that the VM had on this host is not there."""
DISK_LOST = (
    "If the disk is lost, restore a backup or a snapshot. A snapshot also sets the volumes back. To keep only the volumes, use "
    "`nqr volume detach --keep`. A delete of the VM deletes its snapshots and the volumes that are not marked to be kept."
)


class VmPlaced(VmSized, VmKept):
    """A VM on its host, as its agent receives and stores it.

    The fields of `VmFields` are stored for a manager that lost its record of the VM.
    """

    id: str = Field(pattern=VM_ID_PATTERN)
    name: str = Field(pattern=NAME_PATTERN, max_length=63)
    generation: int = 1
    vcpus: int = Field(ge=1, le=32)
    memory_mib: int = Field(ge=64)
    disk_mib: int = Field(ge=16)
    image: ImageRef
    mac: Mac
    tap: Tap
    ip: Ipv4 | None = Field(default=None, description="reserved address; None where the network has its own DHCP")
    ssh_keys: list[OneLine] = Field(default=[])
    network_config: NetworkConfig = NetworkConfig.image


def _plain_image(image: ImageRef) -> ImageRef:
    files = [blob.file for blob in (image.rootfs, *image.boot_files)]
    for text in (image.name, image.rootfs_type, image.root_device, *files):
        word(text)
    if not one_line(image.cmdline).isascii():
        raise ValueError("the kernel's command line is not ASCII")
    return image


def _plain_users(users: list[GuestUser]) -> list[GuestUser]:
    for user in users:
        for key in user.ssh_keys:
            one_line(key)
    return users


class VmSpec(VmPlaced):
    """All an agent needs to run a VM. `guest_token` is the VM's own secret: the agent stores its hash.

    Narrower than a record, which an agent reads back whatever an earlier version wrote: the agent trusts its manager no more
    than a guest."""

    generation: int = Field(default=1, ge=1, lt=2**31)
    memory_mib: int = Field(ge=64, le=1_048_576)
    disk_mib: int = Field(ge=16, le=67_108_864)
    image: Annotated[ImageRef, AfterValidator(_plain_image)]
    tags: list[OneLine] = Field(default=[], max_length=32)
    users: Annotated[list[GuestUser], AfterValidator(_plain_users)] = Field(default=[], max_length=64)
    ssh_keys: list[OneLine] = Field(default=[], max_length=256)
    forwards: list[PortForward] = Field(default=[], max_length=1024)
    volumes: list[Volume] = Field(default=[], max_length=25)
    user_data: UserData = ""
    guest_token: OneLine = Field(max_length=1024)
    attached: list[Annotated[str, Field(pattern=DEVICE_PATTERN)]] = Field(
        default=[],
        max_length=25,
        description="devices of volumes that the VM did not have; where it has no disk yet, it had none",
    )
    detached: list[Volume] = Field(
        default=[], max_length=25, description="what it had and is to have no more; without `data` they are kept"
    )
    run: bool = Field(default=True, description="False: prepare the disk, do not start")
    made: bool = Field(default=False, description="it has had a disk on this host, which never makes another one for it")


BELIEVED_GENERATION = 2**30
"""The manager believes no newer generation of a host. The other half of the numbers is for its own changes of the VM."""


class VmStatus(BaseModel):
    """This host's view of one VM, read from the kernel and the supervisor, not from memory.

    The manager trusts an agent no more than a guest: everything that an agent reports has bounds, here and below.
    """

    id: Annotated[str, Field(max_length=255)]
    name: Named = ""
    generation: int = Field(default=0, ge=0, lt=2**31)
    state: str = Field(pattern=r"^(running|paused|stopped|failed)$", description="running | paused | stopped | failed")
    scope: Named
    pids: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(default=[], max_length=10_000)
    started_at: Moment | None = None
    tap: Name | None = None
    mac: Name | None = None
    ip: Address | None = None
    vmm: Named = ""
    accel: Named = ""
    disk: bool = Field(default=False, description="its disk is on this host")
    network_written: Shown = Field(default="", description="what its disk was told about its network, for people")
    exit_reason: Shown = Field(default="", description="why it ended, or why its VMM paused it; empty: somebody wanted that")
    guest: LastReport = None
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = Field(default=None, description="of its process; None: none ended")
    rebooted: bool = Field(default=False, description="its guest rebooted, which ends a VMM")
    forwards: list[PortForward] = Field(default=[], max_length=128)
    limits: VmLimits | None = Field(default=None, description="as the kernel has them; None: not limited, or not running")
    image: Named = ""
    vcpus: Amount = Field(default=0, description="as it was asked for; 0: the agent has no readable record of the VM")
    memory_mib: Amount = Field(default=0, description="as vcpus")
    tags: list[Named] = Field(default=[], max_length=64)

    @property
    def waits_for_room(self) -> bool:
        """Return whether its VMM paused it because its host's disk is full. Its agent resumes it."""
        return self.state == "paused" and bool(self.exit_reason)

    @property
    def powered_off(self) -> bool:
        """Return whether its guest powered off, or somebody stopped it. A reboot ends its VMM, too, and is not meant to end the VM."""
        return self.state == "stopped" and not self.rebooted


class VmDocument(BaseModel):
    """A host's record of one VM; `spec.guest_token` is empty."""

    spec: VmSpec
    status: VmStatus
    created_at: Moment
    network_written: Shown = ""
    snapshots: list[SnapshotFound] = Field(default=[], max_length=10_000)


class TapStatus(BaseModel):
    name: Name
    vm_id: str | None = Field(max_length=255, description="owner as its ifalias says")
    bridge: Name | None
    up: bool


class Inventory(BaseModel):
    host_id: Name | None
    boot_id: Name
    time: Moment
    vms: list[VmStatus] = Field(max_length=100_000)
    taps: list[TapStatus] = Field(max_length=100_000)
    volumes: list[KeptVolume] = Field(max_length=100_000, description="kept on this host")


class GuestReportForward(BaseModel):
    """POST /v1/hosts/{host_id}/vms/{vm_id}/guest on the manager, with the agent's token."""

    report: GuestReport
    at: Moment

"""The agent's own API (`/agent/v1`), spoken by the manager with the host's command token as bearer.

All verbs are idempotent: asking twice for the same VM and generation is the same as asking once. Stop, pause, resume and
restore take `?generation=N`. The host keeps the newest generation that it was told and refuses older ones (409).

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

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from nqrust.contract.images import Blob
from nqrust.contract.text import one_line, word
from nqrust.contract.vms import (
    DEVICE_PATTERN,
    NAME_PATTERN,
    VM_ID_PATTERN,
    GuestReport,
    GuestUser,
    Ipv4,
    LastReport,
    Mac,
    NetworkConfig,
    OneLine,
    PortForward,
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

    version: str
    kvm: bool
    time: datetime
    status: str = "ok"
    vmm: str = ""
    accel: str = ""
    registered: bool = False


class ImageRef(BaseModel):
    """The image of a VM's disk. The agent uses its own copy below IMAGE_DIR if the sha256 matches.

    Otherwise it downloads `GET {manager}/v1/images/{name}/blobs/{file}` with its agent token.
    """

    name: str
    rootfs: Blob
    rootfs_type: str = "ext4"
    kernel: Blob
    kernel_elf: Blob | None = None
    initrd: Blob | None = None
    cmdline: str = ""
    root_device: str = "/dev/vda"


ADDRESS_TAKEN = "NQR-NET-709"
"""Code of an agent's answer: another VM of the host has that address."""


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
    files = [blob.file for blob in (image.rootfs, image.kernel, image.kernel_elf, image.initrd) if blob]
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
    users: Annotated[list[GuestUser], AfterValidator(_plain_users)] = Field(default=[])
    guest_token: OneLine
    attached: list[Annotated[str, Field(pattern=DEVICE_PATTERN)]] = Field(
        default=[], description="devices of volumes that the VM did not have; where it has no disk yet, it had none"
    )
    detached: list[Volume] = Field(default=[], description="what it had and is to have no more; without `data` they are kept")
    run: bool = Field(default=True, description="False: prepare the disk, do not start")


class VmStatus(BaseModel):
    """This host's view of one VM, read from the kernel and the supervisor, not from memory."""

    id: str
    name: str = ""
    generation: int = 0
    state: str = Field(description="running | paused | stopped | failed")
    scope: str
    pids: list[int] = []
    started_at: datetime | None = None
    tap: str | None = None
    mac: str | None = None
    ip: str | None = None
    vmm: str = ""
    accel: str = ""
    disk: bool = Field(default=False, description="its disk is on this host")
    network_written: str = Field(default="", description="what its disk was told about its network, for people")
    exit_reason: str = Field(default="", description="why it ended, or why its VMM paused it; empty: somebody wanted that")
    guest: LastReport = None
    forwards: list[PortForward] = []
    limits: VmLimits | None = Field(default=None, description="as the kernel has them; None: not limited, or not running")
    image: str = ""
    vcpus: int = Field(default=0, description="as it was asked for; 0: the agent has no readable record of the VM")
    memory_mib: int = Field(default=0, description="as vcpus")
    tags: list[str] = []

    @property
    def waits_for_room(self) -> bool:
        """Return whether its VMM paused it because its host's disk is full. Its agent resumes it."""
        return self.state == "paused" and bool(self.exit_reason)


class VmDocument(BaseModel):
    """A host's record of one VM; `spec.guest_token` is empty."""

    spec: VmSpec
    status: VmStatus
    created_at: datetime
    network_written: str = ""
    snapshots: list[SnapshotFound] = []


class TapStatus(BaseModel):
    name: str
    vm_id: str | None = Field(description="owner as its ifalias says")
    bridge: str | None
    up: bool


class Inventory(BaseModel):
    host_id: str | None
    boot_id: str
    time: datetime
    vms: list[VmStatus]
    taps: list[TapStatus]
    volumes: list[KeptVolume] = Field(description="kept on this host")


class GuestReportForward(BaseModel):
    """POST /v1/hosts/{host_id}/vms/{vm_id}/guest on the manager, with the agent's token."""

    report: GuestReport
    at: datetime

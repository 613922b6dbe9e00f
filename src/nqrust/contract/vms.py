"""VMs as the manager's API shows them."""

from __future__ import annotations

from datetime import datetime, timezone
from enum import Enum
from ipaddress import IPv4Address, ip_address
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from nqrust.contract.images import CommandOfVm, GuestProcess, VariablesOfVm
from nqrust.contract.names import kept_volume_name
from nqrust.contract.text import PRINTABLE, named, one_line, shown
from nqrust.contract.user_data import UserData

NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
"""A VM's name is its hostname too: one RFC 1123 label that begins with a letter."""

VM_ID_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?$"
"""Safe as part of a path, a unit's name and a command line."""

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(2200, 1, 1, tzinfo=timezone.utc)


def _moment(at: datetime) -> datetime:
    if not EARLIEST <= at < LATEST:
        raise ValueError("no clock of a host shows that time")
    return at


Moment = Annotated[AwareDatetime, AfterValidator(_moment)]
"""In a report of another machine: with its zone, and one that database and calculations can take."""


def _ipv4(text: str) -> str:
    return str(IPv4Address(text))


Mac = Annotated[str, Field(pattern=r"^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$", description="unicast, lower case")]
Tap = Annotated[str, Field(pattern=r"^tap[0-9a-f]{11}$", description="as nqrust.contract.names.tap_name makes it")]
Ipv4 = Annotated[str, Field(max_length=15), AfterValidator(_ipv4)]
OneLine = Annotated[str, AfterValidator(one_line)]
Tag = Annotated[str, Field(max_length=64), AfterValidator(one_line)]
"""Of a new VM or template. Earlier ones may have longer tags, and are read as they are."""
Name = Annotated[str, Field(max_length=255, pattern=PRINTABLE)]
"""Of a thing on a host, in an agent's report: short, and safe to store and to show."""
Shown = Annotated[str, AfterValidator(shown)]
"""Of an agent's report, for people. A text that is too long or not printable is cut. It makes no report unreadable."""
Named = Annotated[str, AfterValidator(named)]
"""As `Shown`, for a name."""
Amount = Annotated[int, Field(ge=0, lt=2**63)]
"""PostgreSQL's bigint."""


class VmState(str, Enum):
    """Observed state."""

    pending = "pending"  # accepted, nothing done yet
    starting = "starting"
    running = "running"  # the VMM runs; `guest_up_at`: first report of the guest agent
    stopping = "stopping"
    stopped = "stopped"
    paused = "paused"
    failed = "failed"  # see `error`
    unknown = "unknown"  # its host is not reachable
    deleting = "deleting"


class DesiredState(str, Enum):
    running = "running"
    stopped = "stopped"
    paused = "paused"
    deleted = "deleted"


class RestartPolicy(str, Enum):
    never = "never"
    on_failure = "on-failure"
    always = "always"


class NetworkConfig(str, Enum):
    """Network configuration to write into a VM's disk."""

    dhcp = "dhcp"  # DHCP on its NIC, for the configurator of its image
    image = "image"  # nothing: the image's own configuration is not changed


class PortForward(BaseModel):
    """A port of the VM's host, on all of its addresses except loopback, that leads to a port of the VM."""

    protocol: Literal["tcp", "udp"] = "tcp"
    host_port: int = Field(ge=1, le=65535)
    guest_port: int = Field(ge=1, le=65535)


class PortForwards(BaseModel):
    """PUT /v1/vms/{vm}/forwards: all forwards; others are removed."""

    items: list[PortForward] = Field(max_length=64)


class RateLimits(BaseModel):
    """Limits for each second, regardless of the guest. None: not limited.

    The limit of a disk applies to reads and writes together. A kilobit is 1000 bits, a KiB 1024 bytes.
    """

    model_config = ConfigDict(frozen=True)

    net_rx_kbit: int | None = Field(default=None, ge=64, le=100_000_000, description="to the guest, kilobits a second")
    net_tx_kbit: int | None = Field(default=None, ge=64, le=100_000_000, description="from the guest, kilobits a second")
    disk_kib: int | None = Field(default=None, ge=64, le=100_000_000, description="each of its disks, KiB a second")
    disk_iops: int | None = Field(default=None, ge=10, le=10_000_000, description="each of its disks, operations a second")

    @property
    def limits_network(self) -> bool:
        return self.net_rx_kbit is not None or self.net_tx_kbit is not None


class GuestAccount(BaseModel):
    name: str = Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")
    ssh_keys: list[str] = Field(default=[], max_length=32)


class GuestUser(GuestAccount):
    """An account in the guest, written into its disk before it boots. An existing account gets keys and password."""

    password_hash: str | None = Field(
        default=None, pattern=r"^\$(5|6|y|2b)\$[A-Za-z0-9./$=,]{8,250}$", description="as crypt(5) writes it; None: no password"
    )


VOLUME_PATTERN = r"^[a-z]([a-z0-9-]{0,118}[a-z0-9])?$"
VOLUME_NAME_LENGTH = 120
SNAPSHOT_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DEVICE_PATTERN = r"^vd[b-z]$"


class EmptyVolume(BaseModel):
    """An empty disk beside the VM's own."""

    size_mib: int = Field(ge=16, le=67_108_864)
    keep: bool = Field(default=False, description="stays on its host when the VM is deleted")


class VolumeCreate(BaseModel):
    """A disk beside the VM's own: an empty one of `size_mib`, or the kept one called `name`, which stays kept.

    The guest sees those of a new VM as vdb, vdc ... in this order. A later one gets the first free letter.
    """

    size_mib: int | None = Field(default=None, ge=16, le=67_108_864)
    keep: bool = Field(default=False, description="stays on its host when the VM is deleted")
    name: str | None = Field(
        default=None,
        pattern=VOLUME_PATTERN,
        max_length=VOLUME_NAME_LENGTH,
        description="of a kept volume, or how the name of one begins where that says which",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> VolumeCreate:
        if (self.size_mib is None) == (self.name is None):
            raise ValueError("a volume has a size_mib (an empty one) or a name (a kept one)")
        return self


class Volume(EmptyVolume):
    size_mib: int = Field(ge=1, lt=2**31)
    device: str = Field(pattern=DEVICE_PATTERN, description="its name in the guest, which others do not change: vdb ...")
    name: str | None = Field(default=None, pattern=VOLUME_PATTERN, description="where it was a kept one")
    kept_as: str | None = Field(
        default=None,
        pattern=VOLUME_PATTERN,
        description="what a new one is called once it is kept; None: NAME-DEVICE-ID of its VM",
    )
    change: Literal["attaching", "detaching", "withdrawing"] | None = Field(
        default=None, description="under way on its host; withdrawing: it could not be attached, and that is undone"
    )
    data: Literal["keep", "delete"] | None = Field(default=None, description="of one that goes: what becomes of what is on it")

    def kept_name(self, vm_name: str, vm_id: str) -> str:
        """Return its present or future name in the folder of kept volumes. It is unique."""
        return self.name or self.kept_as or kept_volume_name(vm_name, self.device, vm_id)


class VmFields(BaseModel):
    """Fields that a request for a VM, a template, the records of manager and agent, and the shown VM share.

    Add a field here if no query needs it: it is then stored, templated, sent to the agent, adopted and shown.
    """

    autostart: bool = True
    restart_policy: RestartPolicy = RestartPolicy.on_failure
    tags: list[str] = Field(default=[], max_length=32)
    rate_limits: RateLimits = RateLimits()
    network_config: NetworkConfig = NetworkConfig.dhcp
    guest_exec: bool = Field(default=True, description="operators run commands in the guest, as its root, and copy files")


class VmSized(VmFields):
    """Adds the fields that placement depends on. The manager stores them in columns."""

    vcpus: int = Field(default=1, ge=1, le=32)
    memory_mib: int = Field(default=256, ge=64, le=1_048_576)


class VmKept(VmFields):
    """Adds fields that are stored in full and shown in part: the manager's `spec` column, a part of an agent's record."""

    ssh_keys: list[str] = []
    forwards: list[PortForward] = []
    volumes: list[Volume] = []
    users: list[GuestUser] = []
    user_data: str = ""
    network_config: NetworkConfig = NetworkConfig.image
    process: GuestProcess | None = None


class VmCreate(VmSized):
    name: str = Field(pattern=NAME_PATTERN, max_length=63)
    template: str | None = Field(
        default=None, pattern=NAME_PATTERN, max_length=63, description="gives every field that is not in the request"
    )
    image: str | None = Field(default=None, min_length=1, max_length=128, description="required where no template is named")
    disk_mib: int | None = Field(default=None, ge=16, description="grown to this size; the image's own when absent")
    start: bool = True
    host: str | None = Field(default=None, max_length=253, description="name of the host to place it on; scheduled when absent")
    ssh_keys: list[str] = Field(default=[], max_length=32)
    forwards: list[PortForward] = Field(default=[], max_length=64)
    volumes: list[VolumeCreate] = Field(default=[], max_length=8)
    users: list[GuestUser] = Field(default=[], max_length=8)
    user_data: UserData = Field(default="", description="for cloud-init in the guest; it needs network_config dhcp")
    tags: list[Tag] = Field(default=[], max_length=32)
    command: CommandOfVm = None
    env: VariablesOfVm = []

    @model_validator(mode="after")
    def _has_an_image(self) -> VmCreate:
        if self.image is None and self.template is None:
            raise ValueError("an image or a template must be named")
        if self.user_data and self.network_config is NetworkConfig.image:
            raise ValueError("user_data needs network_config dhcp")
        return self


def _address(text: str) -> str:
    ip_address(text)
    return text


Address = Annotated[str, Field(max_length=45, pattern=r"^[0-9A-Fa-f.:]*$"), AfterValidator(_address)]
_Real = Annotated[float, Field(ge=0, lt=1e15, allow_inf_nan=False)]


class GuestReport(BaseModel):
    """The guest agent's report, relayed by the host's agent. Guests are untrusted.

    The limits make every value safe for calculation, storage and display.
    """

    ip: Address
    boot_id: str = Field(max_length=64, pattern=r"^[\x21-\x7e]*$")
    uptime_seconds: _Real = 0.0
    cpu_percent: _Real = 0.0
    memory_total_kib: Amount = 0
    memory_available_kib: Amount = 0
    disk_total_kib: Amount = 0
    disk_available_kib: Amount = 0
    net_rx_bytes: Amount = 0
    net_tx_bytes: Amount = 0
    gateway: str = Field(default="", max_length=253, pattern=r"^[\x20-\x7e]*$", description="the default gateway the guest sees")
    gateway_reachable: bool | None = Field(default=None, description="None: the guest did not try")
    hostname: str = Field(default="", max_length=253, pattern=PRINTABLE)


def _or_none(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return None


LastReport = Annotated[GuestReport | None, WrapValidator(_or_none)]
"""For use in a larger model, which stays readable if a report is out of bounds."""


class VmLimits(BaseModel):
    """Limits that the host's kernel enforces on a running VM and its VMM. None: not limited."""

    memory_mib: Amount | None = None
    cpu_percent: Amount | None = Field(default=None, description="of one CPU")
    tasks: Amount | None = Field(default=None, description="processes and threads")


class Vm(VmSized):
    id: str
    name: str
    state: VmState
    desired_state: DesiredState
    host: str | None = None
    ip: str | None = None
    mac: str
    boot_id: str | None = None
    image: str
    vcpus: int
    memory_mib: int
    disk_mib: int
    created_at: datetime
    host_id: str | None = None
    tap: str
    generation: int = 1
    observed_generation: int = Field(
        default=0, description="the newest generation that was carried out; `generation` when nothing is under way"
    )
    error: str = ""
    forwards: list[PortForward] = []
    volumes: list[Volume] = []
    users: list[str] = Field(default=[], description="names of the accounts that were asked for")
    started_at: datetime | None = None
    guest_up_at: datetime | None = None
    guest: LastReport = None
    limits: VmLimits | None = Field(default=None, description="None: not running, or its host cannot limit it")
    network_config: NetworkConfig = NetworkConfig.image
    network_written: str = Field(default="", description="what its disk was told, for people; empty: nothing was written yet")
    command: list[str] = Field(default=[], description="of its process, if its image is one of a container")
    exit_code: int | None = Field(default=None, description="of its process, once it ended; 128 and the signal if one ended it")


class VmList(BaseModel):
    items: list[Vm]
    total: int


class StopRequest(BaseModel):
    force: bool = Field(default=False, description="end the VMM at once instead of asking the guest first")
    timeout_seconds: int = Field(default=20, ge=0, le=600)


class SnapshotCreate(BaseModel):
    name: str = Field(pattern=SNAPSHOT_PATTERN, max_length=63)


class SnapshotFound(BaseModel):
    """A snapshot on a host. `kind`: disk (of a stopped VM) or full (with memory; restoring it resumes the VM)."""

    name: Name
    kind: Literal["disk", "full"] = "disk"
    size: Amount = Field(default=0, description="bytes of all its files, holes included")
    created_at: Moment


class Snapshot(SnapshotFound):
    state: Literal["creating", "ready", "deleting", "failed"]
    error: str = ""


class SnapshotList(BaseModel):
    items: list[Snapshot]
    total: int


class ConsoleTicket(BaseModel):
    """A ticket opens one console or session WebSocket within `expires_in` seconds: `{path}?ticket={ticket}` on the manager."""

    ticket: str
    path: str
    expires_in: int

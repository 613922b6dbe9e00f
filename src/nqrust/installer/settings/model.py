"""The typed settings of an installation. One value of `Settings` is the whole intent. `settings/sources.py` gathers it: flags
> environment > --config YAML > the last install's record > the mode's defaults.

The same model is the `--config` file's schema (`nqr config schema`) and `config.yaml` on the installed host.
"""

from __future__ import annotations

import ipaddress
import re
from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from nqrust.contract import names, paths
from nqrust.contract.paths import Layout
from nqrust.installer.settings.firecracker import DIGESTS, VERSION


class Mode(str, Enum):
    production = "production"  # everything on this host
    dev = "dev"  # upstream's name for a development host; same as production
    minimal = "minimal"  # production without the web UI
    manager = "manager"  # control plane only
    agent = "agent"  # worker node only


class NetworkMode(str, Enum):
    nat = "nat"
    bridged = "bridged"
    isolated = "isolated"


class DbType(str, Enum):
    local = "local"
    remote = "remote"


class TlsMode(str, Enum):
    on = "on"
    off = "off"


class VmmChoice(str, Enum):
    auto = "auto"
    firecracker = "firecracker"
    qemu = "qemu"


def _bind(value: str) -> str:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]+):(\d{1,5})", value)
    if not match or not 1 <= int(match[2]) <= 65535:
        raise ValueError("must be ADDRESS:PORT with a port from 1 to 65535")
    return value


def _absolute(value: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9._@+-]+(/[A-Za-z0-9._@+-]+)*", value) or ".." in value.split("/"):
        raise ValueError("must be an absolute path below / without spaces, '..' or a trailing slash")
    return value


_UNSAFE = frozenset("*?[]{}'\"\\`$|;<>&")


def _readable(value: str) -> str:
    parts = value.split("/")[1:]
    if not value.startswith("/") or not value.isprintable() or _UNSAFE & set(value):
        raise ValueError("must be an absolute path without quotes, wildcards or other characters of a shell")
    if any(part in ("", ".", "..") or part != part.strip() for part in parts):
        raise ValueError("must be an absolute path below / without '.', '..', a trailing slash, or a space around a name")
    return value


def _interface(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", value) or value in (".", ".."):
        raise ValueError("must be a network interface name of at most 15 characters")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(/[^\s]*)?", value):
        raise ValueError("must be an http:// or https:// address")
    return value.rstrip("/")


def _identifier(value: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value):
        raise ValueError("must be a lower-case SQL identifier of at most 63 characters")
    return value


def _on_or_off(value: object) -> object:
    """Accept YAML's `on` and `off` without quotes, which are booleans there (YAML 1.1)."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Bind = Annotated[str, AfterValidator(_bind)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
ReadPath = Annotated[str, AfterValidator(_readable)]
"""A path of the administrator's own choice, which nqr reads. It may have spaces. A path that goes into units and sudo rules is an
AbsolutePath."""
InterfaceName = Annotated[str, AfterValidator(_interface)]
Url = Annotated[str, AfterValidator(_url)]
SqlName = Annotated[str, AfterValidator(_identifier)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PathSettings(Section):
    install_dir: AbsolutePath = paths.INSTALL_DIR
    data_dir: AbsolutePath = paths.DATA_DIR
    config_dir: AbsolutePath = paths.CONFIG_DIR
    image_dir: AbsolutePath = paths.IMAGE_DIR


class NetworkSettings(Section):
    """VM network. `cidr`: the range for NAT and isolated mode; its first address is the gateway on the bridge."""

    mode: NetworkMode = NetworkMode.nat
    bridge_name: InterfaceName = names.BRIDGE
    uplink: InterfaceName | None = Field(default=None, description="found by the default route when absent")
    window: int = Field(default=120, ge=60, le=3600, description="seconds in which a moved network card is proven, or goes back")
    cidr: str = names.NAT_CIDR
    dhcp_first: str = names.NAT_DHCP_FIRST
    dhcp_last: str = names.NAT_DHCP_LAST

    @model_validator(mode="after")
    def _addresses_fit(self) -> NetworkSettings:
        net = ipaddress.IPv4Network(self.cidr)
        first, last = ipaddress.IPv4Address(self.dhcp_first), ipaddress.IPv4Address(self.dhcp_last)
        if first not in net or last not in net or first > last:
            raise ValueError("dhcp_first and dhcp_last must be in cidr, in order")
        if first <= ipaddress.IPv4Address(self.gateway):
            raise ValueError("dhcp_first must lie above the gateway, the first address of cidr")
        return self

    @property
    def gateway(self) -> str:
        return str(ipaddress.IPv4Network(self.cidr).network_address + 1)

    @property
    def prefix_length(self) -> int:
        return ipaddress.IPv4Network(self.cidr).prefixlen


class DatabaseSettings(Section):
    """Settings of PostgreSQL, without its password. That comes from `password_file` or DB_PASSWORD, or nqr generates it (local).
    `ca`: certificates (PEM) of the authority that a remote server's certificate must come from."""

    type: DbType = DbType.local
    host: str = "localhost"
    port: int = Field(default=names.POSTGRES_PORT, ge=1, le=65535)
    name: SqlName = "nexus"
    user: SqlName = "nexus"
    password_file: ReadPath | None = None
    ca: ReadPath | None = None


class ComponentSettings(Section):
    ui: bool = True
    container_runtime: bool = False


class ManagerSettings(Section):
    bind: Bind = f"0.0.0.0:{names.MANAGER_PORT}"
    allow_image_paths: bool = True
    disk_overcommit: float = Field(default=1.0, ge=0.1, le=100)
    reconciler_disabled: bool = False
    events_days: int = Field(default=30, ge=1, le=3650)
    audit_days: int = Field(default=365, ge=1, le=3650)
    operations_days: int = Field(default=30, ge=1, le=3650)


class AgentSettings(Section):
    bind: Bind = f"0.0.0.0:{names.AGENT_PORT}"
    manager_base: Url = f"http://localhost:{names.MANAGER_PORT}"
    join_token_file: ReadPath | None = None
    name: str | None = Field(default=None, description="the host's name when absent")
    advertise_address: str | None = Field(
        default=None, description="address at which the manager reaches this agent; found by the route to it when absent"
    )


class UiSettings(Section):
    bind: Bind = f"0.0.0.0:{names.UI_PORT}"


class TlsSettings(Section):
    """`mode` off: other machines may also use plain HTTP, because a proxy with TLS is in front. `certificate` and `key`: of the
    web UI's and the API's own certificate, PEM files on this host."""

    mode: Annotated[TlsMode, BeforeValidator(_on_or_off)] = TlsMode.on
    certificate: ReadPath | None = None
    key: ReadPath | None = None

    @model_validator(mode="after")
    def _pair(self) -> TlsSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key need each other")
        return self


BUNDLE_ENDING = ".tar.zst"
"""Ending of the name of a bundle, see `release.bundle`."""


class ReleaseSettings(Section):
    """Release to install. `source`: `bundled`, a URL, `github:OWNER/REPO[@TAG]`, or the path of a folder with the release or of a
    bundle. `source_dir`: a source tree to build. `public_key`: file with the publisher's Ed25519 public key (PEM) for a signed
    release, refused with `bundled`. `mirror`: another address of the release's files, for those that `source` does not give."""

    source: str = "bundled"
    source_dir: ReadPath | None = None
    public_key: ReadPath | None = None
    mirror: Url | None = None


def _known_firecracker(version: str) -> str:
    if version not in DIGESTS:
        raise ValueError(f"nqr knows no digest of it; it is one of {', '.join(DIGESTS)}")
    return version


FirecrackerVersion = Annotated[str, AfterValidator(_known_firecracker)]


class Settings(Section):
    """The whole intent. Everything has a default, so an empty config file is valid."""

    mode: Mode = Mode.production
    vmm: VmmChoice = VmmChoice.auto
    firecracker_version: FirecrackerVersion = Field(default=VERSION, description="release of Firecracker that is installed")
    firecracker: ReadPath | None = Field(default=None, description="archive of Firecracker on this host")
    nested: bool = Field(default=False, description="let VMs run VMs (kvm module option)")
    paths: PathSettings = PathSettings()
    network: NetworkSettings = NetworkSettings()
    database: DatabaseSettings = DatabaseSettings()
    components: ComponentSettings = ComponentSettings()
    manager: ManagerSettings = ManagerSettings()
    agent: AgentSettings = AgentSettings()
    ui: UiSettings = UiSettings()
    tls: TlsSettings = TlsSettings()
    release: ReleaseSettings = ReleaseSettings()

    @property
    def layout(self) -> Layout:
        p = self.paths
        return Layout(p.install_dir, p.config_dir, p.data_dir, p.image_dir)

    @property
    def has_manager(self) -> bool:
        return self.mode is not Mode.agent

    @property
    def has_remote_database(self) -> bool:
        return self.has_manager and self.database.type is DbType.remote

    @property
    def database_ca(self) -> str | None:
        """Return the file with the authority of the remote database; None without such a database."""
        return self.database.ca if self.has_remote_database else None

    @property
    def has_agent(self) -> bool:
        return self.mode is not Mode.manager

    @property
    def has_ui(self) -> bool:
        return self.components.ui and self.mode in (Mode.production, Mode.dev, Mode.manager)

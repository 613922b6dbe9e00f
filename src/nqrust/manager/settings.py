"""The manager's settings, from the environment. Wrong values raise SettingsError."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from nqrust.contract import names, paths
from nqrust.host.secret import Secret
from nqrust.loopback import is_local
from nqrust.manager.errors import SettingsError

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}
PROVES = "scram-sha-256"
"""How a PostgreSQL on loopback must prove itself (libpq, require_auth)."""


@dataclass(frozen=True)
class TlsFiles:
    """`authority`, `authority_key`: of the installation. `ui`: where the web UI's certificate is written; None: there is no UI.
    `own`: the operator's certificate and key for the API."""

    authority: str
    authority_key: str
    ui: str | None = None
    own: tuple[str, str] | None = None


@dataclass(frozen=True)
class Settings:
    """`database_url`: postgresql://user:password@host:port/name. `vcpu_overcommit`: vCPUs per physical CPU.

    `disk_overcommit`: promised disk per disk, less a reserve. `events_days`, `audit_days`, `operations_days`: retention.
    """

    database_url: Secret
    database_password_file: str | None = None
    """It has the password if the URL has none. Read again for each new connection."""
    bind_host: str = "0.0.0.0"
    bind_port: int = names.MANAGER_PORT
    image_root: str = paths.IMAGE_DIR
    storage_root: str = f"{paths.DATA_DIR}/vms"
    guest_agent: str = f"{paths.Layout().bin_dir}/guest-agent"
    """The binary that images of containers get."""
    allow_image_paths: bool = True
    image_path_roots: tuple[str, ...] = field(default=())
    reconciler_disabled: bool = False
    bridge: str = names.BRIDGE
    bootstrap_file: str | None = None
    vcpu_overcommit: float = 8.0
    disk_overcommit: float = 1.0
    events_days: int = 30
    audit_days: int = 365
    operations_days: int = 30
    memory_headroom_mib: int = 64
    log_level: str = "INFO"
    database_wait_seconds: float = 120.0
    reconcile_seconds: float = 5.0
    tls: TlsFiles | None = None
    """None: plain HTTP on every address."""
    plain_http: bool = False
    """Whether users on other machines may use plain HTTP, because a proxy with TLS is in front."""

    @property
    def image_catalogue(self) -> str | None:
        """Return the file that takes the place of nqr's catalogue of cloud images, if it exists."""
        return os.path.join(os.path.dirname(self.bootstrap_file), paths.IMAGE_CATALOGUE) if self.bootstrap_file else None

    @property
    def sqlalchemy_url(self) -> str:
        """Return the same URL with psycopg 3 as the driver."""
        return "postgresql+psycopg://" + self.database_url.reveal().split("://", 1)[1]


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read every variable of `manager.env`. An empty variable counts as not set."""
    env = {key: value for key, value in environment.items() if value.strip()}
    host, port = _bind(env.get("MANAGER_BIND", f"0.0.0.0:{names.MANAGER_PORT}"))
    return Settings(
        database_url=Secret(_database_url(env)),
        database_password_file=_readable(env, "DATABASE_PASSWORD_FILE"),
        bind_host=host,
        bind_port=port,
        image_root=_absolute(env, "MANAGER_IMAGE_ROOT", paths.IMAGE_DIR),
        storage_root=_absolute(env, "MANAGER_STORAGE_ROOT", f"{paths.DATA_DIR}/vms"),
        guest_agent=_absolute(env, "MANAGER_GUEST_AGENT", f"{paths.Layout().bin_dir}/guest-agent"),
        allow_image_paths=_flag(env, "MANAGER_ALLOW_IMAGE_PATHS", True),
        image_path_roots=tuple(p for p in env.get("MANAGER_IMAGE_PATH_ROOTS", "").split(":") if p),
        reconciler_disabled=_flag(env, "MANAGER_RECONCILER_DISABLED", False),
        bridge=env.get("MANAGER_BRIDGE", names.BRIDGE),
        bootstrap_file=env.get("MANAGER_BOOTSTRAP_FILE"),
        vcpu_overcommit=_number(env, "MANAGER_VCPU_OVERCOMMIT", 8.0),
        disk_overcommit=_number(env, "MANAGER_DISK_OVERCOMMIT", 1.0),
        events_days=_days(env, "MANAGER_EVENTS_DAYS", 30),
        audit_days=_days(env, "MANAGER_AUDIT_DAYS", 365),
        operations_days=_days(env, "MANAGER_OPERATIONS_DAYS", 30),
        memory_headroom_mib=int(_number(env, "MANAGER_MEMORY_HEADROOM_MIB", 64)),
        log_level=_level(env.get("MANAGER_LOG_LEVEL", "info")),
        database_wait_seconds=_number(env, "MANAGER_DATABASE_WAIT_SECONDS", 120.0),
        reconcile_seconds=max(0.2, _number(env, "MANAGER_RECONCILE_SECONDS", 5.0)),
        tls=_tls(env),
        plain_http=_flag(env, "MANAGER_PLAIN_HTTP", False),
    )


def _tls(env: Mapping[str, str]) -> TlsFiles | None:
    authority, key = env.get("MANAGER_CA_FILE"), env.get("MANAGER_CA_KEY_FILE")
    if authority is None and key is None:
        return None
    if authority is None or key is None:
        raise SettingsError("MANAGER_CA_FILE and MANAGER_CA_KEY_FILE need each other.")
    own = env.get("MANAGER_TLS_CERT_FILE"), env.get("MANAGER_TLS_KEY_FILE")
    if (own[0] is None) != (own[1] is None):
        raise SettingsError("MANAGER_TLS_CERT_FILE and MANAGER_TLS_KEY_FILE need each other.")
    pair = (own[0], own[1]) if own[0] is not None and own[1] is not None else None
    return TlsFiles(authority, key, env.get("MANAGER_UI_CERT_FILE"), pair)


def _database_url(env: Mapping[str, str]) -> str:
    url = env.get("DATABASE_URL", "")
    if not url and (path := env.get("DATABASE_URL_FILE")):
        try:
            with open(path, encoding="utf-8") as file:
                url = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"DATABASE_URL_FILE {path} cannot be read: {error}") from error
    if not url:
        raise SettingsError("DATABASE_URL is not set; set it to postgresql://USER:PASSWORD@HOST:PORT/NAME.")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgresql", "postgres") or not rest:
        raise SettingsError("DATABASE_URL is not of the form postgresql://USER:PASSWORD@HOST:PORT/NAME.")
    return _of_whom_to_ask(f"postgresql://{rest}", password="DATABASE_PASSWORD_FILE" in env)


def _of_whom_to_ask(url: str, *, password: bool) -> str:
    """Return the URL. `password`: whether there is one that the URL does not hold. A server on loopback must prove with SCRAM (RFC 5802) that it knows the password: any user of the machine
    may listen there while PostgreSQL is away, and libpq would send the password in clear text. `require_auth` in `url` wins."""
    try:
        parts = urlsplit(url)
        local = (password or bool(parts.password)) and is_local(parts.hostname or "")
    except ValueError as error:
        raise SettingsError(f"DATABASE_URL cannot be read: {error}.") from error
    if not local or "require_auth" in parse_qs(parts.query, keep_blank_values=True):
        return url
    return f"{url}{'&' if parts.query else '?'}require_auth={PROVES}"


def _readable(env: Mapping[str, str], name: str) -> str | None:
    path = env.get(name)
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name} {path} cannot be read: {error}") from error
    return path


def _bind(value: str) -> tuple[str, int]:
    host, _, port = value.strip().rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(f"MANAGER_BIND {value!r} is not ADDRESS:PORT, for example 0.0.0.0:{names.MANAGER_PORT}.")
    return host.strip("[]") or "0.0.0.0", int(port)


def _absolute(env: Mapping[str, str], name: str, default: str) -> str:
    value = env.get(name, default).rstrip("/")
    if not os.path.isabs(value):
        raise SettingsError(f"{name} {value!r} is not an absolute path.")
    return value


def _flag(env: Mapping[str, str], name: str, default: bool) -> bool:
    value = env.get(name)
    if value is None:
        return default
    if value.strip().lower() in _TRUE:
        return True
    if value.strip().lower() in _FALSE:
        return False
    raise SettingsError(f"{name} {value!r} is neither true nor false.")


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(env.get(name, default))
    except ValueError as error:
        raise SettingsError(f"{name} {env[name]!r} is not a number.") from error
    if not 0 <= value < 1e9:
        raise SettingsError(f"{name} {env[name]!r} is out of range.")
    return value


def _days(env: Mapping[str, str], name: str, default: int) -> int:
    value = env.get(name, str(default)).strip()
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= 3650:
        raise SettingsError(f"{name} {value!r} is not a number of days. Use 1 to 3650.")
    return int(value)


def _level(value: str) -> str:
    level = value.strip().upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise SettingsError(f"MANAGER_LOG_LEVEL {value!r} is not a log level. Use debug, info, warning or error.")
    return level

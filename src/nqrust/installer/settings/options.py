"""The table of settings: dotted name, flag, environment variables and a line of help. It is plain data and cheap to import,
so `nqr --help` needs no model. `settings/sources.py`, the command line and the documentation all read this table."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from nqrust.installer.settings.firecracker import DIGESTS


class Form(str, Enum):
    """The text form of a value."""

    text = "text"
    number = "number"
    boolean = "boolean"
    path = "path"  # relative paths start in the working directory
    choice = "choice"


@dataclass(frozen=True)
class Option:
    """One setting. `name`: dotted, as in the YAML file. `upstream_env`: upstream's variable; NQR_<FLAG> also works and wins.
    `off`: the flag that turns a boolean off."""

    name: str
    flag: str
    help: str
    form: Form = Form.text
    upstream_env: str = ""
    off: str = ""
    choices: tuple[str, ...] = ()
    metavar: str = ""

    @property
    def parameter(self) -> str:
        """Return the flag's Python name."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def nqr_env(self) -> str:
        return "NQR_" + self.parameter.upper()

    @property
    def variables(self) -> tuple[str, ...]:
        """Return environment variables by precedence, highest first."""
        return (self.nqr_env, self.upstream_env) if self.upstream_env else (self.nqr_env,)


def _yes_no(name: str, flag: str, off: str, help: str, upstream_env: str = "") -> Option:
    return Option(name, flag, help, Form.boolean, upstream_env, off)


OPTIONS: tuple[Option, ...] = (
    Option(
        "mode",
        "--mode",
        "Role of this host. dev is production with `nqr dev reload`.",
        Form.choice,
        choices=("production", "dev", "minimal", "manager", "agent"),
    ),
    Option(
        "network.mode",
        "--network-mode",
        "Network of the VMs. bridged joins the LAN.",
        Form.choice,
        "NETWORK_MODE",
        choices=("nat", "bridged", "isolated"),
    ),
    Option(
        "network.bridge_name",
        "--bridge-name",
        "Name of the VM bridge.",
        upstream_env="BRIDGE_NAME",
        metavar="NAME",
    ),
    Option("network.uplink", "--uplink", "Uplink interface (default: from the default route).", metavar="IF"),
    Option(
        "network.window",
        "--network-window",
        "Seconds until the old network of a moved card comes back, unless the new one is proven.",
        Form.number,
        metavar="SECONDS",
    ),
    Option("network.cidr", "--network-cidr", "VM network of NAT and isolated mode.", metavar="CIDR"),
    Option("network.dhcp_first", "--dhcp-first", "First address for VMs.", metavar="ADDRESS"),
    Option("network.dhcp_last", "--dhcp-last", "Last address for VMs.", metavar="ADDRESS"),
    _yes_no("components.ui", "--with-ui", "--no-ui", "Install the web UI.", "WITH_UI"),
    _yes_no(
        "components.container_runtime",
        "--with-container-runtime",
        "--no-container-runtime",
        "Build the container runtime image.",
        "WITH_CONTAINER_RUNTIME",
    ),
    Option("vmm", "--vmm", "Virtual machine monitor.", Form.choice, choices=("auto", "firecracker", "qemu")),
    Option(
        "firecracker_version",
        "--firecracker-version",
        "Release of Firecracker to install.",
        Form.choice,
        choices=tuple(DIGESTS),
    ),
    Option("firecracker", "--firecracker", "Archive of Firecracker to install instead of a download.", Form.path, metavar="FILE"),
    _yes_no("nested", "--nested", "--no-nested", "Allow nested virtualization."),
    Option(
        "release.source",
        "--release",
        "Source of the platform: bundled (built from a source tree), an address, github:OWNER/REPO[@TAG] or a path.",
        metavar="SOURCE",
    ),
    Option("release.source_dir", "--source", "Source tree to build the platform from.", Form.path, metavar="DIR"),
    Option(
        "release.public_key",
        "--release-key",
        "Public key (Ed25519, PEM) of the publisher of --release.",
        Form.path,
        metavar="FILE",
    ),
    Option("release.mirror", "--release-mirror", "Second address of the files of --release.", metavar="URL"),
    Option(
        "database.type",
        "--db-type",
        "PostgreSQL on this host (local) or on another one (remote).",
        Form.choice,
        "DB_TYPE",
        choices=("local", "remote"),
    ),
    Option("database.host", "--db-host", "Database host.", upstream_env="DB_HOST", metavar="HOST"),
    Option("database.port", "--db-port", "Database port.", Form.number, "DB_PORT", metavar="PORT"),
    Option("database.name", "--db-name", "Database name.", upstream_env="DB_NAME", metavar="NAME"),
    Option("database.user", "--db-user", "Database role.", upstream_env="DB_USER", metavar="NAME"),
    Option(
        "database.password_file",
        "--db-password-file",
        "File with the database password (or set DB_PASSWORD).",
        Form.path,
        metavar="FILE",
    ),
    Option(
        "database.ca",
        "--db-ca",
        "Certificate authority (PEM) of a remote database. nqr and the manager then take no other server.",
        Form.path,
        metavar="FILE",
    ),
    Option(
        "agent.manager_base",
        "--manager-url",
        "Address of the manager, for agents.",
        upstream_env="MANAGER_BASE",
        metavar="URL",
    ),
    Option(
        "agent.join_token_file",
        "--join-token-file",
        "File with a token from `nqr host token NAME`.",
        Form.path,
        metavar="FILE",
    ),
    Option(
        "agent.bind",
        "--agent-bind",
        "ADDRESS:PORT on which the agent listens.",
        upstream_env="AGENT_BIND",
        metavar="BIND",
    ),
    Option("agent.name", "--agent-name", "Name of this host in the platform.", metavar="NAME"),
    Option(
        "agent.advertise_address",
        "--advertise-address",
        "Address at which the manager reaches the agent.",
        metavar="ADDRESS",
    ),
    Option(
        "manager.bind",
        "--manager-bind",
        "ADDRESS:PORT on which the manager listens.",
        upstream_env="MANAGER_BIND",
        metavar="BIND",
    ),
    _yes_no(
        "manager.allow_image_paths",
        "--manager-allow-image-paths",
        "--no-manager-allow-image-paths",
        "Allow images by path.",
        "MANAGER_ALLOW_IMAGE_PATHS",
    ),
    Option(
        "manager.disk_overcommit",
        "--manager-disk-overcommit",
        "Disk that may be promised to VMs, as a multiple of 95 % of a host's disk.",
        upstream_env="MANAGER_DISK_OVERCOMMIT",
        metavar="FACTOR",
    ),
    _yes_no(
        "manager.reconciler_disabled",
        "--manager-reconciler-disabled",
        "--no-manager-reconciler-disabled",
        "Let the reconciler observe only. It restarts, stops and removes nothing.",
        "MANAGER_RECONCILER_DISABLED",
    ),
    *(
        Option(
            f"manager.{what}_days",
            f"--manager-{what}-days",
            f"Days that the manager keeps {kept} (1 to 3650).",
            Form.number,
            f"MANAGER_{what.upper()}_DAYS",
            metavar="DAYS",
        )
        for what, kept in (("events", "events"), ("audit", "the audit log"), ("operations", "finished operations"))
    ),
    Option("ui.bind", "--ui-bind", "ADDRESS:PORT on which the web UI listens.", metavar="BIND"),
    Option(
        "tls.mode",
        "--tls",
        "TLS for other machines. off also allows plain HTTP, behind a proxy with TLS.",
        Form.choice,
        choices=("on", "off"),
    ),
    Option("tls.certificate", "--tls-cert", "Certificate (PEM) for the web UI and the API.", Form.path, metavar="FILE"),
    Option("tls.key", "--tls-key", "Private key (PEM) of that certificate.", Form.path, metavar="FILE"),
    Option("paths.install_dir", "--install-dir", "Folder for programs.", Form.path, "INSTALL_DIR", metavar="DIR"),
    Option("paths.data_dir", "--data-dir", "Folder for VM disks.", Form.path, "DATA_DIR", metavar="DIR"),
    Option("paths.config_dir", "--config-dir", "Folder for configuration.", Form.path, "CONFIG_DIR", metavar="DIR"),
    Option("paths.image_dir", "--image-dir", "Folder for images.", Form.path, "IMAGE_DIR", metavar="DIR"),
)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}

MODE_DEFAULTS: dict[str, dict[str, object]] = {
    "production": {},
    "dev": {},
    "minimal": {"components.ui": False},
    "manager": {},
    "agent": {"components.ui": False},
}
"""Defaults that a mode changes; `Settings.has_*` define its other effects."""


@dataclass(frozen=True)
class RunFlag:
    """A flag for one run. It is not a setting: nqr does not record it, and the YAML file does not contain it."""

    flag: str
    help: str
    form: Form = Form.boolean
    off: str = ""
    choices: tuple[str, ...] = ()
    metavar: str = ""
    verbs: frozenset[str] = field(default_factory=frozenset)
    repeatable: bool = False

    @property
    def parameter(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def variable(self) -> str:
        return "NQR_" + self.parameter.upper()


_CHANGING = frozenset({"install", "uninstall", "rollback", "phase", "rotate"})
_PLANNING = _CHANGING | {"plan"}
_ALL = _PLANNING | {"verify"}

RUN_FLAGS: tuple[RunFlag, ...] = (
    RunFlag(
        "--config",
        "YAML file with settings. nqr never executes it.",
        Form.path,
        metavar="FILE",
        verbs=frozenset({"install", "plan", "phase", "config"}),
    ),
    RunFlag("--non-interactive", "Run without questions.", off="--interactive", verbs=_CHANGING),
    RunFlag(
        "--dry-run",
        "Show the changes without making them.",
        off="--no-dry-run",
        verbs=_CHANGING,
    ),
    RunFlag(
        "--rehearse",
        "Run the install on a clone of this host, report its changes, and delete the clone.",
        off="--no-rehearse",
        verbs=frozenset({"install"}),
    ),
    RunFlag(
        "--report",
        "File for the full report of a rehearsal (JSON).",
        Form.path,
        metavar="FILE",
        verbs=frozenset({"install"}),
    ),
    RunFlag(
        "--on-failure",
        "Action after a failure: roll back, or keep the changes to resume later.",
        Form.choice,
        choices=("rollback", "keep"),
        verbs=frozenset({"install", "phase"}),
    ),
    RunFlag(
        "--ignore-preflight",
        "Turn this check into a warning. Repeatable.",
        Form.text,
        metavar="CODE",
        verbs=frozenset({"install", "plan", "phase"}),
        repeatable=True,
    ),
    RunFlag(
        "--allow-downgrade",
        "Allow an older release than the one in use, or than the newest signed one seen here.",
        off="--no-allow-downgrade",
        verbs=frozenset({"install", "plan", "phase"}),
    ),
    RunFlag(
        "--purge-data",
        "Also delete VM disks and images.",
        off="--no-purge-data",
        verbs=frozenset({"uninstall"}),
    ),
    RunFlag(
        "--drop-database",
        "Also delete the database and its role.",
        off="--no-drop-database",
        verbs=frozenset({"uninstall"}),
    ),
    RunFlag(
        "--keep-packages",
        "Keep the packages that the install added.",
        off="--no-keep-packages",
        verbs=frozenset({"uninstall"}),
    ),
    RunFlag(
        "--output",
        "Output format. json prints one JSON object per line.",
        Form.choice,
        choices=("text", "json"),
        verbs=_ALL,
    ),
    RunFlag(
        "--log-level",
        "Minimum severity in the log of the run (default: debug, with every command).",
        Form.choice,
        choices=("debug", "info", "warning", "error"),
        verbs=_CHANGING,
    ),
)

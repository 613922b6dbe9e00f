"""Every setting once: its dotted name, flag, environment variables and a line of help. Data only and cheap to
import, so that `nqr --help` needs no model. `settings/sources.py`, the command line and the documentation all
read this table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Form(str, Enum):
    """How a value is written in text."""

    text = "text"
    number = "number"
    boolean = "boolean"
    path = "path"  # relative ones are taken from the working directory
    choice = "choice"


@dataclass(frozen=True)
class Option:
    """One setting. `name`: dotted, as in the YAML file. `upstream_env`: upstream's variable; NQR_<FLAG> is
    added to it and wins. `off`: the flag that turns a boolean off."""

    name: str
    flag: str
    help: str
    form: Form = Form.text
    upstream_env: str = ""
    off: str = ""
    choices: tuple[str, ...] = ()
    panel: str = "Settings"
    metavar: str = ""

    @property
    def parameter(self) -> str:
        """Python name of the flag."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def nqr_env(self) -> str:
        return "NQR_" + self.parameter.upper()

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables in the order in which they win."""
        return (self.nqr_env, self.upstream_env) if self.upstream_env else (self.nqr_env,)


def _yes_no(name: str, flag: str, off: str, help: str, upstream_env: str = "") -> Option:
    return Option(name, flag, help, Form.boolean, upstream_env, off)


OPTIONS: tuple[Option, ...] = (
    Option(
        "mode",
        "--mode",
        "What this host becomes; dev is the same as production.",
        Form.choice,
        choices=("production", "dev", "minimal", "manager", "agent"),
    ),
    Option(
        "network.mode",
        "--network-mode",
        "How VMs reach the network; this version refuses bridged.",
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
    Option("network.uplink", "--uplink", "Interface to the outside; found by the default route.", metavar="IF"),
    Option("network.cidr", "--network-cidr", "VM network of NAT and isolated mode.", metavar="CIDR"),
    Option("network.dhcp_first", "--dhcp-first", "First address handed to VMs.", metavar="ADDRESS"),
    Option("network.dhcp_last", "--dhcp-last", "Last address handed to VMs.", metavar="ADDRESS"),
    _yes_no("components.ui", "--with-ui", "--no-ui", "Install the web UI.", "WITH_UI"),
    _yes_no(
        "components.container_runtime",
        "--with-container-runtime",
        "--no-container-runtime",
        "Build the container runtime image.",
        "WITH_CONTAINER_RUNTIME",
    ),
    Option("vmm", "--vmm", "Virtual machine monitor.", Form.choice, choices=("auto", "firecracker", "qemu")),
    _yes_no("nested", "--nested", "--no-nested", "Let VMs run VMs."),
    Option(
        "release.source",
        "--release",
        "Where the platform comes from; this version takes only bundled, built from a source tree.",
        metavar="SOURCE",
    ),
    Option("release.source_dir", "--source", "Source tree to build the platform from.", Form.path, metavar="DIR"),
    Option(
        "release.public_key",
        "--release-key",
        "Publisher's public key for a signed release, which this version does not install.",
        Form.path,
        metavar="FILE",
    ),
    Option(
        "database.type",
        "--db-type",
        "PostgreSQL of this host, or another's.",
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
        "File that holds the database password (or set DB_PASSWORD).",
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
        "File with a token of `nqr host token`.",
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
        "Let images be registered by path.",
        "MANAGER_ALLOW_IMAGE_PATHS",
    ),
    _yes_no(
        "manager.reconciler_disabled",
        "--manager-reconciler-disabled",
        "--no-manager-reconciler-disabled",
        "Let the reconciler observe only: it restarts, stops and removes nothing.",
        "MANAGER_RECONCILER_DISABLED",
    ),
    Option("ui.bind", "--ui-bind", "ADDRESS:PORT on which the web UI listens.", metavar="BIND"),
    Option("paths.install_dir", "--install-dir", "Programs.", Form.path, "INSTALL_DIR", metavar="DIR"),
    Option("paths.data_dir", "--data-dir", "VM storage.", Form.path, "DATA_DIR", metavar="DIR"),
    Option("paths.config_dir", "--config-dir", "Configuration.", Form.path, "CONFIG_DIR", metavar="DIR"),
    Option("paths.image_dir", "--image-dir", "Image registry.", Form.path, "IMAGE_DIR", metavar="DIR"),
)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}

MODE_DEFAULTS: dict[str, dict[str, object]] = {
    "production": {},
    "dev": {},
    "minimal": {"components.ui": False},
    "manager": {},
    "agent": {"components.ui": False},
}
"""What a mode changes in the defaults; the rest of what it means is in `Settings.has_*`."""


@dataclass(frozen=True)
class RunFlag:
    """A flag that says how to run; it is no setting, so it is neither in the YAML file nor remembered."""

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


_CHANGING = frozenset({"install", "uninstall", "rollback", "phase"})
_PLANNING = _CHANGING | {"plan"}
_ALL = _PLANNING | {"verify"}

RUN_FLAGS: tuple[RunFlag, ...] = (
    RunFlag(
        "--config",
        "YAML file with settings; it is never executed.",
        Form.path,
        metavar="FILE",
        verbs=frozenset({"install", "plan", "phase", "config"}),
    ),
    RunFlag("--non-interactive", "Do not ask.", off="--interactive", verbs=_CHANGING),
    RunFlag(
        "--dry-run",
        "Show what would change and stop.",
        off="--no-dry-run",
        verbs=_CHANGING,
    ),
    RunFlag(
        "--rehearse",
        "Run the install on a clone of this host, measure what it changes, and throw the clone away.",
        off="--no-rehearse",
        verbs=frozenset({"install"}),
    ),
    RunFlag(
        "--report",
        "Write all that a rehearsal measured to this file (JSON).",
        Form.path,
        metavar="FILE",
        verbs=frozenset({"install"}),
    ),
    RunFlag(
        "--on-failure",
        "After a failure go back, or leave things for a resume.",
        Form.choice,
        choices=("rollback", "keep"),
        verbs=frozenset({"install", "phase"}),
    ),
    RunFlag(
        "--ignore-preflight",
        "Make this check a warning; may be repeated.",
        Form.text,
        metavar="CODE",
        verbs=frozenset({"install", "plan", "phase"}),
        repeatable=True,
    ),
    RunFlag(
        "--purge-data",
        "Remove VM disks and images too.",
        off="--no-purge-data",
        verbs=frozenset({"uninstall"}),
    ),
    RunFlag(
        "--drop-database",
        "Drop the database and its role too.",
        off="--no-drop-database",
        verbs=frozenset({"uninstall"}),
    ),
    RunFlag(
        "--keep-packages",
        "Leave the packages that the install brought.",
        off="--no-keep-packages",
        verbs=frozenset({"uninstall"}),
    ),
    RunFlag(
        "--output",
        "text, or json: one JSON object a line.",
        Form.choice,
        choices=("text", "json"),
        verbs=_ALL,
    ),
    RunFlag(
        "--log-level",
        "Least severity that the log of the run holds (default: debug, which has every command).",
        Form.choice,
        choices=("debug", "info", "warning", "error"),
        verbs=_CHANGING,
    ),
)

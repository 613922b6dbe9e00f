"""The fields of the settings screen, and their answers. Pure: `installer/settings` decides which values are valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from nqrust.guide.backend import ADMIN_PASSWORD, DB_PASSWORD
from nqrust.installer.settings.checks import APPLIES
from nqrust.installer.settings.model import DbType, Mode, Settings
from nqrust.installer.settings.options import BY_NAME, MODE_DEFAULTS
from nqrust.installer.settings.sources import Gathered, nested

JOIN, EXPOSURE = "join", "exposure"
LAN, LOOPBACK, OTHER = "lan", "loopback", "as given"
_BINDS = ("manager.bind", "ui.bind")
_ADDRESSES = {LAN: "0.0.0.0", LOOPBACK: "127.0.0.1"}


class Kind(str, Enum):
    choice = "choice"
    text = "text"
    secret = "secret"  # its content is never shown


@dataclass(frozen=True)
class Field:
    """A row of the form. `key`: dotted name of a setting, a variable of a secret, or a field that sets several."""

    key: str
    label: str
    kind: Kind = Kind.text
    choices: tuple[tuple[str, str], ...] = ()  # value, words
    shown: Callable[[Settings], bool] = lambda settings: True
    about: str = ""
    placeholder: str = ""  # in an empty text field

    @property
    def help(self) -> str:
        """Return a line on the field: of its own, or of its option."""
        return self.about or BY_NAME[self.key].help

    def applies(self, settings: Settings) -> bool:
        """Return whether the field has an effect with these settings, as for its option."""
        has_effect = APPLIES.get(self.key)
        return self.shown(settings) and (has_effect is None or has_effect[0](settings))


@dataclass(frozen=True)
class Group:
    title: str
    fields: tuple[Field, ...]


_YES_NO = (("true", "yes"), ("false", "no"))


def _remote(settings: Settings) -> bool:
    return settings.has_manager and settings.database.type is DbType.remote


GROUPS = (
    Group(
        "Role",
        (
            Field(
                "mode",
                "Role",
                Kind.choice,
                (
                    ("production", "everything on this host"),
                    ("minimal", "everything but the web UI"),
                    ("manager", "manager and web UI, no VMs"),
                    ("agent", "VMs only, joins a manager"),
                ),
            ),
            Field(
                JOIN,
                "Join line",
                Kind.secret,
                shown=lambda s: s.mode is Mode.agent,
                about="Paste the whole line of `nqr host token NAME`. It fills in the fields below.",
                placeholder="paste it here",
            ),
            Field("agent.manager_base", "Manager"),
            Field("agent.name", "Host name", shown=lambda s: s.mode is Mode.agent),
        ),
    ),
    Group(
        "VM network",
        (
            Field(
                "network.mode",
                "Network",
                Kind.choice,
                (("nat", "VMs behind this host"), ("bridged", "VMs in the LAN"), ("isolated", "no way out")),
            ),
            Field("network.cidr", "Subnet"),
            Field("network.uplink", "Uplink"),
            Field("network.bridge_name", "Bridge", shown=lambda s: s.has_agent),
        ),
    ),
    Group(
        "Access",
        (
            Field(
                EXPOSURE,
                "Reachable from",
                Kind.choice,
                ((LAN, "all networks of this host"), (LOOPBACK, "this host only")),
                shown=lambda s: s.has_manager,
                about="Where the manager and the web UI listen.",
            ),
            Field("tls.mode", "TLS", Kind.choice, (("on", "for other machines"), ("off", "plain HTTP, behind a proxy"))),
            Field("components.ui", "Web UI", Kind.choice, _YES_NO, shown=lambda s: s.mode is not Mode.minimal and s.has_manager),
            Field(
                ADMIN_PASSWORD,
                "Admin password",
                Kind.secret,
                shown=lambda s: s.has_manager,
                about="First password of the user admin (12 characters or more). Empty: nqr generates one.",
                placeholder="generated",
            ),
        ),
    ),
    Group(
        "Database",
        (
            Field("database.type", "PostgreSQL", Kind.choice, (("local", "on this host"), ("remote", "on another host"))),
            Field("database.host", "Host", shown=_remote),
            Field("database.port", "Port", shown=_remote),
            Field("database.name", "Name", shown=_remote),
            Field("database.user", "Role", shown=_remote),
            Field(DB_PASSWORD, "Password", Kind.secret, shown=_remote, about="Password of the database role."),
            Field("database.ca", "Authority", shown=_remote, placeholder="PEM file on this host"),
        ),
    ),
    Group(
        "VMs and images",
        (
            Field("vmm", "VMM", Kind.choice, (("auto", "tested here"), ("firecracker", "needs KVM"), ("qemu", "everywhere"))),
            Field("components.container_runtime", "Container image", Kind.choice, _YES_NO, shown=lambda s: s.has_agent),
            Field("paths.image_dir", "Image folder"),
            Field("paths.data_dir", "VM folder", shown=lambda s: s.has_agent),
        ),
    ),
)
FIELDS: dict[str, Field] = {field.key: field for group in GROUPS for field in group.fields}


def governing(values: Mapping[str, object]) -> Settings:
    """Return settings with the choices that decide which fields have an effect. All other settings are defaults."""
    deciding = ("mode", "network.mode", "database.type", "components.ui", "tls.mode", "vmm")
    found = dict(MODE_DEFAULTS.get(str(values.get("mode", "")), {})) | {n: values[n] for n in deciding if n in values}
    return Settings.model_validate(nested(found))


def together(changed: Mapping[str, object], found: Gathered) -> Settings:
    """Return the settings that decide which fields have an effect, with the changes above those that are not defaults."""
    return governing({name: item.value for name, item in found.given.items() if item.kind != "default"} | dict(changed))


def effective(changed: Mapping[str, object], found: Gathered) -> dict[str, object]:
    """Return the changed values that have an effect together: a field that another one hides counts as not changed."""
    settings = together(changed, found)
    kept: dict[str, object] = {}
    for name, value in changed.items():
        field, applies = FIELDS.get(name), APPLIES.get(name)
        if (field is None or field.applies(settings)) and (applies is None or applies[0](settings)):
            kept[name] = value
    return kept


def shown_value(field: Field, found: Gathered, changed: Mapping[str, object]) -> str:
    """Return the value of a field for its row. `changed`: values that may not be valid together yet."""
    if field.kind is Kind.secret:
        return ""
    if field.key == EXPOSURE:
        return exposure({**{name: found.given[name].value for name in _used_binds(found.settings)}, **changed})
    value = changed.get(field.key, found.given[field.key].value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def exposure(values: Mapping[str, object]) -> str:
    """Return where manager and web UI listen: LAN, LOOPBACK, or OTHER for addresses that somebody gave."""
    addresses = {str(values[name]).rpartition(":")[0] for name in _BINDS if name in values}
    return next((word for word, address in _ADDRESSES.items() if addresses == {address}), OTHER)


def exposed(word: str, found: Gathered) -> dict[str, object]:
    """Return the settings behind a choice of `exposure`, with the ports as they are."""
    ports = {name: str(found.given[name].value).rpartition(":")[2] for name in _BINDS}
    return {name: f"{_ADDRESSES[word]}:{port}" for name, port in ports.items()} if word in _ADDRESSES else {}


def _used_binds(settings: Settings) -> tuple[str, ...]:
    return _BINDS if settings.has_ui else _BINDS[:1]

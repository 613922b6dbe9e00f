"""Sources of settings, highest precedence first:

flags > environment > --config YAML > the last install's record > the mode's defaults

`gather` is pure except for files that settings name (it reads a password file and looks for others). Every value keeps its
provenance for `nqr config show` and error messages.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from nqrust.contract.text import fault
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.settings.checks import check_consistency
from nqrust.installer.settings.model import BUNDLE_ENDING, Settings
from nqrust.installer.settings.options import BY_NAME, MODE_DEFAULTS, OPTIONS, Form, Option
from nqrust.installer.settings.record import value_of
from nqrust.installer.settings.yaml_file import ConfigFile

PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True)
class Given:
    """A value and its source: `kind` is flag | environment | config | recorded | default, `label` is for people."""

    value: object
    kind: str
    label: str


@dataclass(frozen=True)
class Gathered:
    """The whole intent with its provenance. `given`: every setting by dotted name, in the table's order. `explicit`: those
    that are not defaults. `notes`: remarks for the user."""

    settings: Settings
    given: dict[str, Given]
    explicit: frozenset[str]
    notes: tuple[str, ...] = ()
    db_password: Secret | None = None
    admin_password: Secret | None = None
    join_token: Secret | None = None
    proxy: dict[str, str] = field(default_factory=dict)


def gather(
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    config: ConfigFile | None = None,
    recorded: Mapping[str, object] | None = None,
    cwd: str = "/",
) -> Gathered:
    """Merge settings from all sources. `flags`: dotted name -> value as typed (None: not given). `recorded`: dotted name ->
    value from `settings_record.remembered`. `cwd`: base of relative paths in flags and variables.

    Raises UsageError NQR-USE-003 (flag), NQR-CFG-005..009 and NQR-CFG-012.
    """
    notes: list[str] = []
    given: dict[str, Given] = {}
    for name, value in (recorded or {}).items():
        if name in BY_NAME:
            given[name] = Given(value, "recorded", "the last install")
    if config:
        given.update(_from_config(config))
    given.update(_from_environment(environ, cwd, notes))
    given.update(_from_flags(flags, cwd))

    settings = _validate(given)
    explicit = frozenset(given)
    check_consistency(settings, given, notes)
    complete = {o.name: given.get(o.name) or _default(settings, o) for o in OPTIONS}
    password = _password(settings, given, environ, notes)
    admin = _admin_password(settings, environ, notes)
    token = _join_token(settings, given, environ, notes)
    proxy = {name: environ[name] for name in PROXY_VARIABLES if environ.get(name)}
    return Gathered(settings, complete, explicit, tuple(notes), password, admin, token, proxy)


def parse_boolean(text: str) -> bool | None:
    """Parse true/false, 1/0, yes/no, on/off in any case; return None for anything else."""
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


# --- the sources, lowest first


def _from_config(config: ConfigFile) -> dict[str, Given]:
    found: dict[str, Given] = {}
    sections = {name.split(".")[0] for name in BY_NAME if "." in name}
    for key, leaf in config.leaves.items():
        where = f"{config.path}, line {leaf.line}"
        if "password" in key and key != "database.password_file":
            raise UsageError(
                "NQR-CFG-007",
                f"{where}: the configuration file must not contain a password.",
                "Put the password in a file (mode 0600) and set database.password_file, or set DB_PASSWORD.",
            )
        if key in sections and (leaf.value is None or leaf.value == {}):
            continue  # an empty section sets nothing
        if key in sections:
            raise UsageError(
                "NQR-CFG-006",
                f"{where}: {key} is a section, not a value.",
                f"Write the settings of {key} indented below it: {_keys_of(key)}.",
            )
        if key not in BY_NAME:
            raise UsageError("NQR-CFG-005", f"{where}: there is no setting {key}.", _did_you_mean_key(key, sections))
        if leaf.value is None:
            continue  # `key:` alone sets nothing
        found[key] = Given(leaf.value, "config", where)
    return found


def _did_you_mean_key(key: str, sections: set[str]) -> str:
    flat = {o.parameter: o.name for o in OPTIONS} | {v.lower(): o.name for o in OPTIONS for v in o.variables}
    last = {name.rpartition(".")[2]: name for name in BY_NAME}
    lowered = key.lower().replace("-", "_")
    exact = flat.get(lowered) or last.get(lowered.rpartition(".")[2])
    if exact:
        return f"Did you mean {exact}?" + _as_yaml(exact)
    section = key.split(".")[0]
    inside = [name for name in BY_NAME if name.startswith(f"{section}.")] if section in sections else []
    own = {name.partition(".")[2]: name for name in inside} or {n: n for n in (*BY_NAME, *sections)}
    near = get_close_matches(key.partition(".")[2] if inside else key, own, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {own[near[0]]}?" + _as_yaml(own[near[0]])
    if inside:
        return f"Keys of {section}: {_keys_of(section)}."
    return "All keys are in docs/reference/settings.md and in the output of: nqr config schema"


def _keys_of(section: str) -> str:
    return ", ".join(name.partition(".")[2] for name in BY_NAME if name.startswith(f"{section}."))


def _as_yaml(name: str) -> str:
    section, _, key = name.partition(".")
    return f" In YAML: `{section}: {{{key}: …}}`." if key else ""


def _from_environment(environ: Mapping[str, str], cwd: str, notes: list[str]) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for option in OPTIONS:
        values = [(v, environ[v]) for v in option.variables if v in environ]
        for variable, text in values:
            if not text.strip():
                notes.append(f"The environment variable {variable} is empty and counts as not set.")
        filled = [(v, text) for v, text in values if text.strip()]
        if not filled:
            continue
        variable, text = filled[0]
        if len(filled) > 1 and filled[1][1] != text:
            notes.append(f"{variable} wins over {filled[1][0]}; they differ.")
        value: object = text.strip()
        if option.form is Form.boolean:
            value = parse_boolean(text)
            if value is None:
                raise UsageError(
                    "NQR-CFG-008",
                    f"The environment variable {variable} is “{text}”, which is neither true nor false.",
                    f"Set {variable} to true or false, or unset it.",
                )
        elif option.form is Form.path or _is_bundle(option, text):
            value = _absolute(text.strip(), cwd)
        found[option.name] = Given(value, "environment", f"environment variable {variable}")
    return found


def _from_flags(flags: Mapping[str, object], cwd: str) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for name, value in flags.items():
        if value is None:
            continue
        option = BY_NAME[name]
        flag = option.off if option.form is Form.boolean and value is False else option.flag
        if option.form is Form.path or _is_bundle(option, str(value)):
            value = _absolute(str(value), cwd)
        found[name] = Given(value, "flag", f"flag {flag}")
    return found


def _is_bundle(option: Option, text: str) -> bool:
    return option.name == "release.source" and text.endswith(BUNDLE_ENDING) and "://" not in text


def _absolute(path: str, cwd: str) -> str:
    return os.path.normpath(os.path.join(cwd, os.path.expanduser(path)))


# --- together


def _validate(given: Mapping[str, Given]) -> Settings:
    mode = given["mode"].value if "mode" in given else "production"
    merged: dict[str, object] = dict(MODE_DEFAULTS.get(str(mode), {}))
    merged.update((name, item.value) for name, item in given.items())
    merged = _dhcp_range(merged) | merged
    try:
        return Settings.model_validate(nested(merged))
    except ValidationError as error:
        raise _usage_error(error, given) from error


def _dhcp_range(merged: Mapping[str, object]) -> dict[str, object]:
    """Return the DHCP range of another VM network: .10 to .250 in a /24, between 2 and the last address in a small one. Empty
    for the default network or an invalid one."""
    try:
        net = ipaddress.IPv4Network(str(merged["network.cidr"]))
    except (KeyError, ValueError):
        return {}
    size = net.num_addresses
    first, last = (10, size - 6) if size >= 32 else (2, size - 2)
    return {"network.dhcp_first": str(net[0] + first), "network.dhcp_last": str(net[0] + last)}


def nested(flat: Mapping[str, object]) -> dict[str, Any]:
    """Return a nested mapping: {"a.b": 1} -> {"a": {"b": 1}}."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, key = name.partition(".")
        if key:
            tree.setdefault(section, {})[key] = value
        else:
            tree[name] = value
    return tree


def _usage_error(error: ValidationError, given: Mapping[str, Given]) -> UsageError:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    option, item = BY_NAME.get(name), given.get(name)
    message = _expected(dict(first), option)
    if option is None or item is None:  # a section's own check, such as the addresses of the VM network
        about = [f"{n} ({g.label})" for n, g in given.items() if n.startswith(f"{name}.")]
        sources = f" Given: {', '.join(about)}." if about else ""
        return UsageError(
            "NQR-CFG-009",
            f"The {name or 'settings'} settings do not fit: {message}.{sources}",
            "Correct them together; see docs/reference/settings.md.",
        )
    shown = f"“{item.value}”"
    if item.kind == "flag":
        return UsageError("NQR-USE-003", f"{option.flag} cannot be {shown}: {message}.", _cure(option, item))
    if item.kind == "environment":
        return UsageError("NQR-CFG-008", f"The {item.label} is {shown}: {message}.", _cure(option, item))
    if item.kind == "recorded":
        return UsageError(
            "NQR-CFG-011",
            f"The last install recorded {name} as {shown}: {message}.",
            f"Give the value again with {option.flag}.",
        )
    return UsageError("NQR-CFG-006", f"{item.label}: {name} cannot be {shown}: {message}.", _cure(option, item))


def _expected(error: Mapping[str, Any], option: Option | None) -> str:
    if option and option.choices:
        return "it must be one of " + ", ".join(option.choices)
    if error["type"] in ("bool_parsing", "bool_type"):
        return "it must be true or false"
    if error["type"].startswith("int_"):
        return "it must be a whole number"
    if error["type"] in ("greater_than_equal", "less_than_equal"):
        return "it must be between 1 and 65535" if "port" in str(error["loc"]) else fault(error["msg"])
    if error["type"] == "string_type":
        return "it must be text"
    text = fault(error["msg"])
    return "it " + text if text.startswith("must") else text[:1].lower() + text[1:]


def _cure(option: Option, item: Given) -> str:
    if option.choices:
        near = get_close_matches(str(item.value).lower(), option.choices, n=1, cutoff=0.5)
        if near:
            return f"Did you mean {near[0]}?"
        return f"Use one of {', '.join(option.choices)}."
    return f"Correct it, or leave it out for the default; {option.name} is described in docs/reference/settings.md."


def _default(settings: Settings, option: Option) -> Given:
    mode = settings.mode.value
    label = f"default of mode {mode}" if option.name in MODE_DEFAULTS.get(mode, {}) else "default"
    return Given(value_of(settings, option.name), "default", label)


def _password(settings: Settings, given: Mapping[str, Given], environ: Mapping[str, str], notes: list[str]) -> Secret | None:
    """Return the database password. A file named by flag wins over NQR_DB_PASSWORD and DB_PASSWORD, which win over a file
    named elsewhere."""
    filled = [name for name in ("NQR_DB_PASSWORD", "DB_PASSWORD") if environ.get(name)]
    from_env = environ[filled[0]] if filled else ""
    if len({environ[name] for name in filled}) > 1:
        notes.append("NQR_DB_PASSWORD wins over DB_PASSWORD; they differ.")
    item = given.get("database.password_file")
    path = settings.database.password_file
    if path and item and (item.kind == "flag" or not from_env):
        if item.kind == "recorded" and not os.path.exists(path):
            notes.append(f"{path} is gone; the password that the last install kept is used.")
            return None
        return read_password(path, notes)
    return _checked_password(from_env, f"the environment variable {filled[0]}") if from_env else None


def _admin_password(settings: Settings, environ: Mapping[str, str], notes: list[str]) -> Secret | None:
    """Return the administrator's first password from NQR_ADMIN_PASSWORD. The manager's own rule decides whether it is one."""
    text = environ.get("NQR_ADMIN_PASSWORD", "")
    if not text:
        return None
    if not settings.has_manager:
        notes.append("NQR_ADMIN_PASSWORD has no effect here: it is for hosts with a manager (any mode but agent).")
        return None
    from nqrust.contract.auth import UserCreate  # here, because most commands come without a password

    try:
        UserCreate(username="admin", password=text)
    except ValidationError as error:
        raise UsageError(
            "NQR-CFG-013",
            "The password of the administrator (NQR_ADMIN_PASSWORD) must have 12 to 256 characters.",
            "Choose another one, or leave it out: nqr then generates one.",
        ) from error
    return _printable(text, "The password of the administrator (NQR_ADMIN_PASSWORD)")


def _join_token(settings: Settings, given: Mapping[str, Given], environ: Mapping[str, str], notes: list[str]) -> Secret | None:
    """Return the token of an agent from NQR_JOIN_TOKEN. A file named by flag wins over it."""
    text = environ.get("NQR_JOIN_TOKEN", "").strip()
    if not text:
        return None
    if settings.has_manager:
        notes.append("NQR_JOIN_TOKEN has no effect here: it is for mode agent.")
        return None
    item = given.get("agent.join_token_file")
    if item is not None and item.kind == "flag":
        notes.append("--join-token-file wins over NQR_JOIN_TOKEN.")
        return None
    return _printable(text, "The join token (NQR_JOIN_TOKEN)")


def read_password(path: str, notes: list[str]) -> Secret:
    """Return the first line of a file. Raises UsageError NQR-CFG-013 if there is none."""
    cure = "Put the password alone on the first line of a file that root can read, mode 0600."
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(4096)
            if os.fstat(file.fileno()).st_mode & 0o077:
                notes.append(f"{path} holds a password and others may read it; chmod 0600 {path} would close it.")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError("NQR-CFG-013", f"The password file {path} cannot be read: {reason}.", cure) from error
    password = text.split("\n", 1)[0].rstrip("\r")
    if not password:
        raise UsageError("NQR-CFG-013", f"The password file {path} is empty.", cure)
    return _checked_password(password, path)


def _checked_password(password: str, where: str) -> Secret:
    return _printable(password, f"The database password in {where}")


def _printable(text: str, what: str) -> Secret:
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise UsageError("NQR-CFG-013", f"{what} holds a control character.", "Use printable characters only.")
    return Secret(text)

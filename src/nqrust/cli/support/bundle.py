"""A tar file for support: configuration with secrets masked, status, logs. It never contains a secret file unmasked."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import time
from collections.abc import Iterator
from dataclasses import asdict

from nqrust.cli.failures import open_own_file
from nqrust.contract import paths
from nqrust.contract.names import UNITS
from nqrust.contract.paths import Layout
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.host.secret import MASK
from nqrust.installer.engine.errors import NqrError, UsageError

_SECRET_KEY = re.compile(r"(?i)(password|token|secret|credential|private|hash|sha256|salt)")
_URL_PASSWORD = re.compile(r"(?i)([a-z][a-z0-9+.-]{0,31}://[^:/\s@]+:)[^@\s]+(@)")
_ENV_LINE = re.compile(r"(?m)^([ \t]*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*[=:]\s*)(\S.*)$")
_JSON_PAIR = re.compile(r'("([^"]+)"\s*:\s*)"([^"]*)"')
_LIMIT = 5 << 20
"""Bytes taken from the end of one file."""


def write(host: Host, path: str = "") -> str:
    """Write the bundle with mode 0600 and return its path. Raises UsageError NQR-USE-012 if it cannot be written."""
    name = f"nqrust-support-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    path = path or os.path.abspath(f"{name}.tar.gz")
    known = known_secrets(host)
    try:
        with os.fdopen(open_own_file(path, 0o600), "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
            for member, text in _members(host):
                data = mask(text, known).encode(errors="backslashreplace")
                entry = tarfile.TarInfo(f"{name}/{member}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                tar.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise UsageError(
            "NQR-USE-012",
            f"{path} cannot be written: {error.strerror or error}.",
            "Choose a path with --output.",
        ) from error
    return path


def mask(text: str, known: frozenset[str] = frozenset()) -> str:
    """Mask every value whose name or form looks like a secret, and every one of the `known` secrets."""
    for secret in known:
        text = text.replace(secret, MASK)
    text = _URL_PASSWORD.sub(rf"\1{MASK}\2", text)
    text = _JSON_PAIR.sub(lambda m: f'{m[1]}"{MASK}"' if _is_secret(m[2]) else m[0], text)
    return _ENV_LINE.sub(lambda m: f"{m[1]}{MASK}" if _is_secret(m[2]) else m[0], text)


def _is_secret(name: str) -> bool:
    return bool(_SECRET_KEY.search(name)) and not name.lower().endswith(("_file", "-file"))


def known_secrets(host: Host) -> frozenset[str]:
    """Return every secret that this host stores, so that `mask` finds it in any log."""
    layout = Layout()
    found: set[str] = set()
    for path in (layout.cli_token_file, layout.join_token_file, layout.admin_password_file):
        found.add(_read(host, path).strip())
    for path in (paths.SECRETS_JSON, paths.AGENT_CREDENTIALS):
        try:
            values = json.loads(_read(host, path) or "{}")
        except ValueError:
            continue
        found |= {value for value in values.values() if isinstance(value, str)}
    return frozenset(value for value in found if len(value) >= 12)


def _members(host: Host) -> Iterator[tuple[str, str]]:
    layout = Layout()
    yield "status.json", _status()
    for path in (
        layout.config_yaml,
        layout.manager_env,
        layout.agent_env,
        layout.ui_env,
        layout.dnsmasq_conf,
    ):
        if text := _read(host, path):
            yield f"config/{os.path.basename(path)}", text
    for path in (paths.JOURNAL, paths.VMM_VERDICT):
        if text := _read(host, path):
            yield f"state/{os.path.basename(path)}", text
    for folder, wanted in ((paths.INSTALL_LOG_DIR, "install"), (paths.LOG_DIR, "services")):
        for path in _glob(host, f"{folder}/*.log")[-10:]:
            yield f"logs/{wanted}/{os.path.basename(path)}", _read(host, path)
    for name, argv in _commands().items():
        yield f"commands/{name}.txt", _output(host, argv)


def _commands() -> dict[str, tuple[str, ...]]:
    units = tuple(f"--unit={unit}" for unit in UNITS.values())
    return {
        "journal": ("journalctl", "--no-pager", "-n", "3000", *units),
        "units": ("systemctl", "--no-pager", "list-units", "--all", "nqrust-*", "fc-*"),
        "addresses": ("ip", "-details", "address"),
        "routes": ("ip", "route"),
        "rules": ("iptables-save",),
        "kernel": ("uname", "-a"),
        "disks": ("df", "-h"),
    }


def _status() -> str:
    from nqrust.cli.install.gathering import as_installed
    from nqrust.installer import operations

    try:
        return json.dumps(asdict(operations.status(as_installed({}))), indent=2, default=dict)
    except (NqrError, HostError) as error:
        return json.dumps({"error": str(error)})


def _read(host: Host, path: str) -> str:
    try:
        return host.read_bytes(path)[-_LIMIT:].decode(errors="replace")
    except HostError:
        return ""


def _glob(host: Host, pattern: str) -> list[str]:
    try:
        return host.glob(pattern)
    except HostError:
        return []


def _output(host: Host, argv: tuple[str, ...]) -> str:
    try:
        done = host.run(command(*argv, timeout=30))
        return done.stdout + done.stderr
    except HostError as error:
        return f"{error}\n"

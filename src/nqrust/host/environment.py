"""The environment of commands: small, and the same on every machine. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PROXY_VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
"""Lower case. Programs differ in case (curl reads http_proxy only, others upper case), so both are passed."""

_CERTIFICATES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
)


_MIRRORS = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_PROXY",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_PYTHON_DOWNLOADS_JSON_URL",
    "RUSTUP_UPDATE_ROOT",
    "RUSTUP_DIST_SERVER",
)


def reach(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that say how this machine reaches others: proxies, certificates, mirrors. Only those with a value."""
    both = [name for one in PROXY_VARIABLES for name in (one, one.upper())]
    return {name: environment[name] for name in (*both, *_CERTIFICATES, *_MIRRORS) if environment.get(name)}


def certificates(environment: Mapping[str, str]) -> str:
    """Return the file of certificates that the environment names for programs without a variable of their own, or ""."""
    names = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
    return next((environment[name] for name in names if environment.get(name)), "")


def render(variables: Mapping[str, str]) -> str:
    """Return lines NAME=VALUE, sorted, quoted for a shell."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items()))


def parse(content: str) -> dict[str, str]:
    """Parse what `render` returned. Ignores other lines."""
    found = {}
    for line in content.splitlines():
        name, equals, value = line.partition("=")
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        if equals and name.isidentifier() and len(words) == 1:
            found[name] = words[0]
    return found


def scrubbed(environment: Mapping[str, str], *, home: str, user: str) -> dict[str, str]:
    """Return PATH, HOME, a fixed locale, no questions from debconf; of `environment` only proxies, certificates and PIP_*."""
    kept = {
        "PATH": PATH,
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    kept.update(proxies(environment))
    for name, value in environment.items():
        if name in _CERTIFICATES or name.startswith("PIP_"):
            kept[name] = value
    return kept


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the non-empty proxy variables, each in both cases. Each case keeps its own value."""
    found: dict[str, str] = {}
    for name in PROXY_VARIABLES:
        lower, upper = environment.get(name, ""), environment.get(name.upper(), "")
        if lower or upper:
            found[name] = lower or upper
            found[name.upper()] = upper or lower
    return found

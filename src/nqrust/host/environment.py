"""The environment of commands: small, and the same on every machine. Pure."""

from __future__ import annotations

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

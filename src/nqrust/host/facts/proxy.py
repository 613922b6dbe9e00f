"""The proxy from this program's environment, or from /etc/environment (environment(7), pam_env(8))."""

from __future__ import annotations

from collections.abc import Mapping

from nqrust.host.environment import PROXY_VARIABLES
from nqrust.host.facts.reading import text
from nqrust.host.port import Host


def probe(host: Host) -> dict[str, str]:
    """Return lower-case names: http_proxy, https_proxy, no_proxy, ...; only those that are set."""
    return of(host.environment()) or of(parse_environment_file(text(host, "/etc/environment")))


def of(environment: Mapping[str, str]) -> dict[str, str]:
    found = {name: environment.get(name) or environment.get(name.upper()) or "" for name in PROXY_VARIABLES}
    return {name: value for name, value in found.items() if value}


def parse_environment_file(content: str) -> dict[str, str]:
    values = {}
    for line in content.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            values[name.strip()] = value.strip().strip("\"'")
    return values

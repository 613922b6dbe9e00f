"""The pip settings of a host that nqr's pip runs follow: how to reach an index, and nothing else.

A host's pip.conf(5) may pin versions (`constraint`), add packages (`requirement`), or redirect an install (`target`,
`prefix`, `user`). Such a setting would break or redirect an install of hash-locked packages. Standard library only, because
the bootstrap uses this module before any package is installed. See "Configuration" in pip's documentation.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping

from nqrust.host.environment import certificates

REACH = (
    "index-url", "extra-index-url", "pypi-url", "no-index", "find-links", "trusted-host", "proxy", "cert", "client-cert",
    "timeout", "default-timeout", "retries", "keyring-provider", "use-feature", "use-deprecated", "cache-dir",
)  # fmt: skip
"""Options that control access to an index. `use-feature` and `use-deprecated` choose the certificates."""
OURS = ("disable-pip-version-check", "no-input", "root-user-action")
"""Options that nqr's callers set through the environment."""
SECTIONS = ("global", "download", ":env:")
"""Sections of pip's configuration; later ones win."""


def environment(listing: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables for a pip run that follows only REACH of a host's settings.

    `listing`: output of `pip config list`, one `section.option='value'` a line. `environ`: the variables for pip. A variable that
    pip must not follow is returned empty, which pip treats as unset. The certificates of SSL_CERT_FILE count if no setting of
    pip names others. Before 24.2, pip does not read that variable.
    """
    found: dict[str, str] = {}
    for section in SECTIONS:
        found.update(_section(listing, section))
    variables = {name: "" for name in environ if name.upper().startswith("PIP_")}
    for name in variables:
        if _option(name) in OURS:
            variables[name] = environ[name]
    for option in REACH:
        value = environ.get(_variable(option)) or found.get(option) or (certificates(environ) if option == "cert" else "")
        if value:
            variables[_variable(option)] = value
    return {**variables, "PIP_CONFIG_FILE": os.devnull}


def _section(listing: str, section: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in listing.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.startswith(f"{section}."):
            try:
                text = ast.literal_eval(value)
            except (SyntaxError, ValueError):
                continue
            found[key[len(section) + 1 :].replace("_", "-")] = " ".join(str(text).split())
    return found


def _variable(option: str) -> str:
    return f"PIP_{option.upper().replace('-', '_')}"


def _option(variable: str) -> str:
    return variable[len("PIP_") :].lower().replace("_", "-")

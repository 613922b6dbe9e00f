"""No address of a package registry or mirror is written anywhere: those are the machine's own settings."""

from __future__ import annotations

import ipaddress
import re

from tests.architecture.tree import files, name_of, text_of

ALLOWED = {
    # Where releases are published, for the sources that download them.
    "github.com", "api.github.com", "objects.githubusercontent.com", "static.rust-lang.org",
    # Where distributions publish their cloud images, for the catalogue.
    "cloud.debian.org", "cloud-images.ubuntu.com", "dl.rockylinux.org", "dl-cdn.alpinelinux.org",
    # Documents we refer to, and names of XML and JSON schemas (never fetched).
    "www.apache.org", "www.w3.org", "json-schema.org", "spdx.org", "keepachangelog.com", "semver.org", "www.rfc-editor.org",
    "datatracker.ietf.org", "man7.org", "www.freedesktop.org", "systemd.io", "www.kernel.org", "docs.kernel.org", "www.postgresql.org",
    "prometheus.io", "www.qemu.org", "wiki.qemu.org", "thekelleys.org.uk", "supervisord.org", "no-color.org",
}  # fmt: skip
EXAMPLES = re.compile(r"(^|\.)(example|test|invalid|localhost|local|internal|lan)$|(^|\.)example\.(com|org|net)$")
LOCKS = "requirements/"


def allowed(host: str) -> bool:
    """Whether a host may be written in a file: documents, examples (RFC 2606), addresses that lead nowhere public."""
    host = host.lower().rstrip(".").strip("[]")
    if "{" in host or "$" in host or "%" in host or "." not in host:
        return True  # a template, or a name without a domain
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host in ALLOWED or bool(EXAMPLES.search(host))


def addresses(text: str) -> list[str]:
    """Hosts of all URLs in a text."""
    return [
        match[1] for match in re.finditer(r"\b(?:https?|ftp)://(?:[^\s/@'\"<>]+@)?([A-Za-z0-9.{}$%_-]+|\[[0-9A-Fa-f:]+])", text)
    ]


def test_no_registry_is_named() -> None:
    found = sorted({f"{name_of(path)}: {host}" for path in files() for host in addresses(text_of(path)) if not allowed(host)})
    assert found == [], "use the machine's own settings, or add a document's host to ALLOWED"


def test_locks_hold_names_and_hashes_only() -> None:
    for path in files():
        if name_of(path).startswith(LOCKS) and path.suffix == ".txt":
            assert "://" not in text_of(path) and "--index" not in text_of(path), name_of(path)


def test_address_rule_flags_only_hosts_outside_the_allowed_list() -> None:
    mirror = "mirror." + "packages.io"
    assert addresses(f"see https://{mirror}/simple and http://user:pw@{mirror}:8080/x") == [mirror, mirror]
    assert not allowed(mirror) and not allowed("8.8.4.4")
    assert all(
        map(
            allowed,
            ("localhost", "10.0.0.1", "127.0.0.1", "192.0.2.7", "releases.example.com", "{host}", "[fd00::1]", "github.com"),
        )
    )

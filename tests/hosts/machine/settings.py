"""What a test host takes over from the testing machine, read at run time: apt and pip settings, resolver, certificates.

Nothing of it is written down in the repository, so the same tests run behind any mirror, proxy or private index.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.hosts.machine.outside import outside

PLUMBING = "/mnt/test-host"
"""Mount points for caches inside a host: a place that neither a fingerprint nor the product looks at."""
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def os_codename() -> str:
    """VERSION_CODENAME of the testing machine (os-release(5)), or an empty string."""
    match = re.search(r'^VERSION_CODENAME="?([\w-]+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    return match[1] if match else ""


def apt_sources(suite: str) -> str:
    """The testing machine's own Debian sources as sources.list(5) lines for `suite`; empty when it has none to take."""
    here = os_codename()
    if not here:
        return ""
    wanted = {here, f"{here}-updates", f"{here}-security"}
    lines: list[str] = []
    for uri, its_suite, components in _apt_entries():
        if its_suite in wanted and "main" in components.split():
            line = f"deb {uri} {its_suite.replace(here, suite)} main"
            if line not in lines:
                lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def _apt_entries() -> Iterator[tuple[str, str, str]]:
    """(URI, suite, components) of every enabled binary source in both formats."""
    folder = Path("/etc/apt/sources.list.d")
    for path in [Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list"))]:
        if path.exists():
            for line in path.read_text().splitlines():
                match = re.match(r"\s*deb\s+(?:\[[^]]*]\s+)?(\S+)\s+(\S+)\s+(.+)", line)
                if match:
                    yield match[1], match[2], match[3].split("#")[0]
    for path in sorted(folder.glob("*.sources")):
        text = re.sub(r"^#.*\n?", "", path.read_text(), flags=re.MULTILINE)
        for stanza in re.split(r"\n\s*\n", text):
            fields = {key.lower(): value for key, value in re.findall(r"^([\w-]+):\s*(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE)}
            if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").strip() != "no":
                for uri in fields.get("uris", "").split():
                    for its_suite in fields.get("suites", "").split():
                        yield uri, its_suite, fields.get("components", "")


def apt_configuration() -> str:
    """The machine's apt.conf(5) settings that decide whether a mirror can be reached: proxies, TLS, date checks."""
    keep = re.compile(r"^Acquire::(https?::|Check-|Retries|ForceIPv)")
    dump = outside("apt-config", "dump", check=False).stdout.decode()
    return "".join(f"{line}\n" for line in dump.splitlines() if keep.match(line) and not line.endswith('"";'))


def resolver() -> str:
    """resolv.conf(5) for a host: the machine's own, or what stands behind its local stub."""
    text = Path("/etc/resolv.conf").read_text()
    behind = Path("/run/systemd/resolve/resolv.conf")
    if re.search(r"^nameserver\s+(127\.|::1)", text, re.MULTILINE) and behind.exists():
        text = behind.read_text()
    return text


def extra_certificates(bundle: Path) -> list[str]:
    """PEM certificates that the testing machine trusts and `bundle` lacks (a proxy's, a company's)."""
    block = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)

    def read(path: Path) -> dict[str, str]:
        if not path.exists():
            return {}
        found = block.finditer(path.read_text(errors="replace"))
        return {hashlib.sha256(base64.b64decode("".join(one[1].split()))).hexdigest(): one[0] + "\n" for one in found}

    known = read(bundle)
    return [pem for digest, pem in read(CA_BUNDLE).items() if digest not in known]


INDEX_OPTIONS = (
    "index-url", "extra-index-url", "pypi-url", "no-index", "find-links", "trusted-host", "proxy", "cert", "client-cert",
    "timeout", "default-timeout", "retries", "keyring-provider", "use-feature", "use-deprecated",
)  # fmt: skip
"""pip's options that decide whether an index can be reached. No other goes into a host: a constraint or a target is the
testing machine's own business, and its file is not there."""


def pip_configuration(environ: Mapping[str, str] = os.environ, root: str = "/") -> tuple[str, dict[str, str]]:
    """(pip.conf for a host, what to bind read-only: outside -> inside), merged from pip's files below `root` and `environ`.

    Local indexes, link folders and a client certificate move below PLUMBING, because a folder of wheels under /opt would be
    taken for something an installer had left there.
    """
    merged: dict[str, str] = {}
    home = environ.get("HOME", "/root").lstrip("/")
    for path in ("etc/xdg/pip/pip.conf", "etc/pip.conf", f"{home}/.pip/pip.conf", f"{home}/.config/pip/pip.conf"):
        _read_pip_file(Path(root, path), merged)
    if environ.get("PIP_CONFIG_FILE"):
        _read_pip_file(Path(environ["PIP_CONFIG_FILE"]), merged)
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            merged[name[4:].lower().replace("_", "-")] = value
    merged = {option: value for option, value in merged.items() if option in INDEX_OPTIONS}
    if "cert" in merged:
        merged["cert"] = str(CA_BUNDLE)
    binds: dict[str, str] = {}
    if "client-cert" in merged:
        inside = f"{PLUMBING}/client-cert.pem"
        binds[merged["client-cert"]] = inside
        merged["client-cert"] = inside

    def moved(match: re.Match[str]) -> str:
        path = Path(match[2])
        folder = path.parent if path.name == "simple" else path
        if not folder.is_dir():
            return match[0]
        inside = binds.setdefault(str(folder), f"{PLUMBING}/index{len(binds)}")
        return match[1] + inside + match[2][len(str(folder)) :]

    for key in ("index-url", "extra-index-url", "find-links"):
        if key in merged:
            merged[key] = re.sub(r"(?<!\S)(file://|)(/\S+?)/?(?!\S)", moved, merged[key])
    merged["cache-dir"] = f"{PLUMBING}/pip-cache"
    lines = [f"{key} = {' '.join(value.split())}" for key, value in sorted(merged.items())]
    return "[global]\n" + "\n".join(lines) + "\n", binds


def _read_pip_file(file: Path, merged: dict[str, str]) -> None:
    if file.is_file():
        parser = configparser.RawConfigParser()
        parser.read(file)
        for section in ("global", "download", "install"):
            if parser.has_section(section):
                merged.update((option.replace("_", "-"), value) for option, value in parser.items(section))

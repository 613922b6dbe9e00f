"""Packages of Debian for hosts without a network: apt-get(8), sources.list(5), deb-src-control(5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nqrust.host.environment import certificates
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed

INDEX = ".apt/lists"
"""Folder of apt's own index, below that of the packages."""
_SOURCES = ".apt/sources.list"


def only(folder: str) -> tuple[str, ...]:
    """Return options for apt that make the packages in a folder its only source."""
    options = (
        f"Dir::Etc::sourcelist={folder}/{_SOURCES}",
        "Dir::Etc::sourceparts=/dev/null",
        f"Dir::State::lists={folder}/{INDEX}/",
        "Dir::Cache::pkgcache=",  # the host's own cache describes the host's own sources
        "Dir::Cache::srcpkgcache=",
        "APT::Sandbox::User=root",  # the sandbox user may not enter the cache; nqr has checked each file
        "Acquire::Languages=none",
    )
    return tuple(part for option in options for part in ("-o", option))


def trusted(file: str) -> tuple[str, ...]:
    """Return options that make apt trust the certificates in a file, apt-transport-https(1). Nothing for ""."""
    return ("-o", f"Acquire::https::CAInfo={file}") if file else ()


@dataclass(frozen=True)
class Collector:
    def collect(self, host: Host, names: Sequence[str], folder: str) -> None:
        host.mkdir(folder, mode=0o755)
        scratch = f"{folder}.downloading"
        host.remove_tree(scratch)
        host.mkdir(scratch, mode=0o755)
        host.mkdir(f"{scratch}/partial", mode=0o755)
        host.write_file(f"{scratch}/status", b"")  # of a system without any package
        options = (
            f"Dir::State::status={scratch}/status",
            f"Dir::Cache::archives={scratch}/",
            "Dir::Cache::pkgcache=",
            "Dir::Cache::srcpkgcache=",
            "Debug::NoLocking=1",  # it changes nothing that others use
            "APT::Sandbox::User=root",
            "Acquire::Retries=3",
        )
        trust = trusted(certificates(host.environment()))
        argv = ["apt-get", *trust, *(part for option in options for part in ("-o", option)), "-y", "-q", "--download-only"]
        try:
            host.run(command(*argv, "--no-install-recommends", "install", *names, timeout=1800))
        except CommandFailed as error:
            lines = [line for line in error.stderr.splitlines() if line.startswith("E:")]
            raise StepFailed(
                "NQR-DEP-109",
                f"The packages for the bundle could not be collected: {(lines or [str(error)])[0].removeprefix('E: ').rstrip('.')}.",
                "Run apt-get update, check the package sources of this host, then try again.",
            ) from error
        stanzas = []
        for path in sorted(host.glob(f"{scratch}/*.deb")):
            fields = host.run(command("dpkg-deb", "--field", path)).stdout
            name = _file_name(fields)
            host.rename(path, f"{folder}/{name}")
            stanzas.append(_stanza(host, fields, folder, name))
        host.write_file(f"{folder}/Packages", "\n".join(stanzas).encode(), mode=0o644)
        host.remove_tree(scratch)

    def prepare(self, host: Host, folder: str, place: str) -> None:
        # Here and not in `collect`, because the place is known only now. apt trusts it: nqr has checked each file.
        host.mkdir(f"{folder}/.apt", mode=0o755)
        host.mkdir(f"{folder}/{INDEX}", mode=0o755)
        host.mkdir(f"{folder}/{INDEX}/partial", mode=0o755)
        host.write_file(f"{folder}/{_SOURCES}", f"deb [trusted=yes] file:{place} ./\n".encode(), mode=0o644)


def _file_name(fields: str) -> str:
    """Return the name of the file as in Debian's archive, without the epoch: apt takes a percent sign for an escape."""
    name, version, architecture = (_field(fields, key) for key in ("Package", "Version", "Architecture"))
    return f"{name}_{version.rpartition(':')[2]}_{architecture}.deb"


def _stanza(host: Host, fields: str, folder: str, name: str) -> str:
    found = host.stat(f"{folder}/{name}")
    size = found.size if found else 0
    return f"{fields.rstrip()}\nFilename: ./{name}\nSize: {size}\nSHA256: {host.sha256(f'{folder}/{name}')}\n"


def _field(fields: str, key: str) -> str:
    match = re.search(rf"(?m)^{key}: *(.*)$", fields)
    return match[1].strip() if match else ""

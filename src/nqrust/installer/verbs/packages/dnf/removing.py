"""Removal of RPMs: rpm(8) and dnf(8) for the verb for packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nqrust.host.port import Host, Kind, command
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.packages.remover import Remover

ASIDES = (".rpmorig", ".rpmnew", ".rpmsave")
"""Suffixes of configuration files that rpm(8) keeps: the earlier one, the package's, and the later one."""
_ARCHIVES = "/var/cache/dnf/*/packages/*.rpm"
_ANY = tuple(range(256))  # the exit code of rpm -e is the number of packages that it could not remove
_NEEDED = re.compile(r"is needed by \(installed\) (\S+?)-[^-\s]+-[^-\s]+$", re.MULTILINE)
_TORN = re.compile(r"(.+);[0-9a-f]{8}")  # a temporary file before rpm renames it


def installed(host: Host) -> set[str]:
    return set(host.run(command("rpm", "-qa", "--qf", "%{NAME}\n")).stdout.split())


def would_go(host: Host, names: list[str]) -> set[str]:
    """Return packages that would go, from `rpm -e --test`, which names dependents. A removal without dependency cleaning
    takes no others."""
    done = host.run(command("rpm", "-e", "--test", "--allmatches", *names, ok=_ANY))
    return set(names) | set(_NEEDED.findall(done.stderr))


def needs(host: Host) -> dict[str, set[str]]:
    """Return package -> packages that provide its requirements: a name, a path, or each term of a boolean dependency."""
    provides: dict[str, set[str]] = {}
    for line in host.run(command("rpm", "-qa", "--qf", "[%{=NAME}\t%{PROVIDES}\n]")).stdout.splitlines():
        name, _, what = line.partition("\t")
        provides.setdefault(what, set()).add(name)
    found: dict[str, set[str]] = {}
    for line in host.run(command("rpm", "-qa", "--qf", "[%{=NAME}\t%{REQUIRENAME}\n]")).stdout.splitlines():
        name, _, what = line.partition("\t")
        for term in terms(what):
            if term.startswith("/") and term not in provides:
                provides[term] = _owners(host, term)
            found.setdefault(name, set()).update(provides.get(term, set()))
    return found


def terms(requirement: str) -> Iterator[str]:
    """Yield a, b and meaningless words for `(a if b >= 1)`; yield anything else unchanged."""
    if not requirement.startswith("("):
        yield requirement
        return
    for word in requirement.split():
        bare = word.lstrip("(")
        yield bare[: len(bare) - max(0, bare.count(")") - bare.count("("))]


def _owners(host: Host, path: str) -> set[str]:
    done = host.run(command("rpm", "-q", "--whatprovides", "--qf", "%{NAME}\t\n", path, ok=_ANY))
    return {line.removesuffix("\t") for line in done.stdout.splitlines() if line.endswith("\t")}


def scripts(host: Host, names: set[str]) -> str:
    return host.run(command("rpm", "-q", "--scripts", *sorted(names))).stdout if names else ""


def listed(host: Host, names: set[str]) -> frozenset[str]:
    return frozenset(host.run(command("rpm", "-ql", *sorted(names))).stdout.splitlines()) if names else frozenset()


def purge(host: Host, names: set[str], configured: set[str]) -> None:
    # sudo protects itself (/etc/dnf/protected.d/sudo.conf, dnf.conf(5)). nqr removes only a sudo that was not there before.
    options = ("--setopt=clean_requirements_on_remove=0", "--setopt=protected_packages=")
    host.run(command("dnf", "remove", "-y", *options, *sorted(names), timeout=1800))


def leftovers(host: Host, names: set[str]) -> dict[str, Any]:
    """Return files that rpm unpacked but did not record, in the form of `traces.made`. Their paths come from the archives,
    which dnf keeps until a transaction ends. Only files equal to the archive count."""
    paths: dict[str, list[Any]] = {}
    for archive in host.glob(_ARCHIVES) if names else ():
        if host.run(command("rpm", "-qp", "--qf", "%{NAME}", archive)).stdout in names:
            paths.update(_unpacked(host, host.run(command("rpm", "-qp", "--dump", archive)).stdout))
    return {"paths": paths, "users": [], "groups": []}


def _unpacked(host: Host, dump: str) -> Iterator[tuple[str, list[Any]]]:
    beside: dict[str, dict[str, list[str]]] = {}
    for line in dump.splitlines():
        fields = line.rsplit(" ", 10)  # path, size, mtime, digest, mode, owner, group, config, doc, rdev, symlink
        if len(fields) != 11 or not fields[0].startswith("/"):
            continue
        path, digest = fields[0], fields[3]
        folder = path.rpartition("/")[0]
        if folder not in beside:
            beside[folder] = _torn(host, folder)
        for torn in beside[folder].get(path, ()):
            stat = host.stat(torn)
            if stat is not None:
                yield torn, traces.row(host, torn, stat)
        stat = host.stat(path)
        if stat is None or _owners(host, path):
            continue
        is_directory = stat.kind is Kind.directory and fields[4].startswith("04")
        is_file = stat.kind is Kind.file and host.sha256(path) == digest
        if is_directory or is_file or (stat.kind is Kind.symlink and host.readlink(path) == fields[10]):
            yield path, traces.row(host, path, stat)


def _torn(host: Host, folder: str) -> dict[str, list[str]]:
    stat = host.stat(folder)
    found: dict[str, list[str]] = {}
    if stat is not None and stat.kind is Kind.directory:
        for name in host.listdir(folder):
            match = _TORN.fullmatch(name)
            if match:
                found.setdefault(f"{folder}/{match[1]}", []).append(f"{folder}/{name}")
    return found


_SERVER, _DATA = "postgresql-server", "/var/lib/pgsql/data"


def clusters(names: set[str], before: set[str]) -> dict[str, str]:
    """Return the cluster's data folder if the server created it: rpm(8) leaves it, useless without the server. An older
    cluster stays unchanged."""
    return {_SERVER: _DATA} if _SERVER in names and _DATA not in before else {}


REMOVER = Remover(
    lambda host: lambda name: name, installed, lambda host: set(), would_go, needs, purge,
    scripts, listed, leftovers, ASIDES, clusters=clusters,
)  # fmt: skip

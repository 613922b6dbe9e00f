"""Removal of debs: dpkg(1) and apt-get(8) for the verb for packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Host, command
from nqrust.installer.verbs.packages.apt import dead_clusters
from nqrust.installer.verbs.packages.remover import Remover

_APT_ENV = {
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",
    "UCF_FORCE_CONFFOLD": "1",
    # sudo's prerm refuses while root's password is locked. nqr removes only a sudo that was not there before.
    "SUDO_FORCE_REMOVE": "yes",
}
_GONE = ("not-installed", "")
_ARCHIVES, _CONTROL = "/var/cache/apt/archives", "/var/lib/dpkg/tmp.ci"


def _dpkg_plain(host: Host) -> Callable[[str], str]:
    native = host.run(command("dpkg", "--print-architecture")).stdout.strip()
    return lambda name: name.removesuffix(f":{native}").removesuffix(":all")


def _dpkg_states(host: Host) -> Iterator[tuple[str, str]]:
    plain = _dpkg_plain(host)
    out = host.run(command("dpkg-query", "-W", "-f", "${db:Status-Status} ${binary:Package}\n")).stdout
    rows = (line.partition(" ") for line in out.splitlines())
    return ((plain(name), state) for state, _, name in rows)


def _dpkg_installed(host: Host) -> set[str]:
    return {name for name, state in _dpkg_states(host) if state not in _GONE}


def _dpkg_config_only(host: Host) -> set[str]:
    return {name for name, state in _dpkg_states(host) if state == "config-files"}


def _dpkg_needs(host: Host) -> dict[str, set[str]]:
    """Return names in Depends and Pre-Depends, every alternative (deb-substvars(5)). A Provides counts for its provider."""
    plain = _dpkg_plain(host)
    form = "${binary:Package}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    rows = [line.split("\t") for line in host.run(command("dpkg-query", "-W", "-f", form)).stdout.splitlines()]
    providers: dict[str, set[str]] = {}
    for name, _, provides in rows:
        for virtual in _names(provides):
            providers.setdefault(virtual, set()).add(plain(name))
    found: dict[str, set[str]] = {}
    for name, depends, _ in rows:
        wanted = set(_names(depends))
        found[plain(name)] = wanted | {p for w in wanted for p in providers.get(w, set())}
    return found


def _names(field: str) -> list[str]:
    return re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)", field)


def _apt_foresee(host: Host, names: list[str]) -> set[str]:
    plain = _dpkg_plain(host)
    out = host.run(command("apt-get", "--simulate", "-q", "purge", *names, env=_APT_ENV)).stdout
    return {plain(line.split()[1]) for line in out.splitlines() if line.startswith(("Purg ", "Remv "))}


def _apt_would_go(host: Host, names: list[str]) -> set[str]:
    try:
        return _apt_foresee(host, names)
    except CommandFailed:  # an interrupted transaction blocks it
        _dpkg_mend(host, set(names))
        return _apt_foresee(host, names)


def _dpkg_mend(host: Host, going: set[str]) -> None:
    """Repair packages of `going` whose unpacking was interrupted (“reinst-required”). They block apt-get(8) while their
    archive is unavailable, and otherwise make their purge fail. A new unpacking tells dpkg(1) all their files. Without an
    archive, dpkg removes the files it knows, with a force option."""
    if any(state not in (*_GONE, "installed", "config-files") for _, state in _dpkg_states(host)):
        _dpkg_configure(host)
    torn = _dpkg_torn(host, going)
    half = _dpkg_half_unpacked(host) if torn else []
    archives = [path for name in torn for path in host.glob(f"{_ARCHIVES}/{name.partition(':')[0]}_*.deb")]
    if archives:
        again = ("--force-depends", "--force-confold", "--unpack")
        host.run(command("dpkg", *again, *archives, env=_APT_ENV, timeout=600, ok=(0, 1)))
        torn = _dpkg_torn(host, going)
    if torn:
        force = ("--force-remove-reinstreq", "--force-depends")
        host.run(command("dpkg", *force, "--remove", *torn, env=_APT_ENV, timeout=600))
        for path in half:
            host.remove(path)
    if host.exists(_CONTROL):  # from a package that dpkg had only begun to read; its next unpacking would delete it
        host.remove_tree(_CONTROL)


def _dpkg_configure(host: Host) -> None:
    """Configure, and wait like apt-get while another program (unattended-upgrades) has dpkg's lock."""
    configure, end = command("dpkg", "--configure", "-a", env=_APT_ENV, timeout=600, ok=(0, 1, 2)), host.monotonic() + 300.0
    while (done := host.run(configure)).code == 2:
        if host.monotonic() > end:
            raise CommandFailed(configure.argv, 2, done.stderr)
        host.sleep(2.0)


def _dpkg_torn(host: Host, going: set[str]) -> list[str]:
    plain = _dpkg_plain(host)
    out = host.run(command("dpkg-query", "-W", "-f", "${db:Status-Eflag} ${binary:Package}\n")).stdout
    rows = (line.partition(" ") for line in out.splitlines())
    return sorted(name for flag, _, name in rows if flag == "reinstreq" and plain(name) in going)


def _dpkg_half_unpacked(host: Host) -> list[str]:
    """Return files that an interrupted dpkg left beside their targets, by that package's control files."""
    paths: list[str] = []
    for name in ("conffiles", "md5sums"):
        if host.exists(f"{_CONTROL}/{name}"):
            rows = (line.split() for line in host.read_text(f"{_CONTROL}/{name}").splitlines())
            paths += ["/" + row[-1].lstrip("/") + ".dpkg-new" for row in rows if row]
    return [path for path in paths if host.exists(path)]


_MAINTAINER_SCRIPTS = ("preinst", "postinst", "config", "prerm", "postrm")  # deb-maintainer-scripts(5)


def _dpkg_info(host: Host, names: set[str], kinds: tuple[str, ...]) -> Iterator[str]:
    """Yield contents of files in dpkg's database. Their names include the architecture for a package that may exist twice."""
    plain, folder = _dpkg_plain(host), "/var/lib/dpkg/info"
    for file in host.listdir(folder):
        name, _, kind = file.rpartition(".")
        if kind in kinds and plain(name) in names:
            yield host.read_text(f"{folder}/{file}")


def _dpkg_scripts(host: Host, names: set[str]) -> str:
    return "\n".join(_dpkg_info(host, names, _MAINTAINER_SCRIPTS))


def _dpkg_listed(host: Host, names: set[str]) -> frozenset[str]:
    return frozenset(line for content in _dpkg_info(host, names, ("list", "conffiles")) for line in content.split("\n"))


def _apt_purge(host: Host, names: set[str], configured: set[str]) -> None:
    # apt also treats packages as essential that a minimal system may lack, such as Debian 13's e2fsprogs.
    options = ("-y", "-q", "--allow-remove-essential", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0")
    dead_clusters.forget(host, names)
    # First what is not purged: the other way round it would be, along with what it needs.
    for verb, wanted in (("remove", configured - _dpkg_config_only(host)), ("purge", names)):
        there = sorted(wanted & _dpkg_installed(host))
        if there:
            host.run(command("apt-get", verb, *options, *there, env=_APT_ENV, timeout=1800))


_SERVER = re.compile(r"postgresql-(?:common|(\d+))(?::\w+)?\Z")


def clusters(names: set[str], before: set[str]) -> dict[str, str]:
    """Return patterns of clusters that a purge drops with all databases, whoever created them. postgresql-common drops every
    cluster (its postrm), a server those of its version."""
    found = ((name, _SERVER.match(name)) for name in names)
    return {name: f"/var/lib/postgresql/{match[1] or '*'}/*" for name, match in found if match}


REMOVER = Remover(
    _dpkg_plain, _dpkg_installed, _dpkg_config_only, _apt_would_go, _dpkg_needs, _apt_purge, _dpkg_scripts, _dpkg_listed,
    mend=_dpkg_mend,
    foresee=_apt_foresee,
    clusters=clusters,
)  # fmt: skip

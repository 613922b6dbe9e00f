"""The verb for packages: what was not there before goes; the auto/manual marks of what stays are put back.

Which packages those are is measured when reverting (installed now, brought by us, not there before), so that
dependencies of every depth are included; what something else needs by now stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Host, command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext
from nqrust.installer.verbs.account.undo import remove_user
from nqrust.installer.verbs.packages import spared, traces
from nqrust.installer.verbs.packages.dnf import removing as rpms

if TYPE_CHECKING:
    from nqrust.installer.engine.originals import Originals

_APT_ENV = {
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",
    "UCF_FORCE_CONFFOLD": "1",
    # sudo's prerm refuses while root's password is locked. Only a sudo that was not there before goes.
    "SUDO_FORCE_REMOVE": "yes",
}
_GONE = ("not-installed", "")
_BELOW_ROOTS = tuple(f"{root}/" for root in traces.ROOTS)
_ARCHIVES, _CONTROL = "/var/cache/apt/archives", "/var/lib/dpkg/tmp.ci"


@dataclass(frozen=True)
class Remover:
    """One package manager. `plain` turns a recorded name into the one that the other functions use; `installed` gives
    names, those in `config_only` were removed and left their configuration; `would_go` what purging some names would
    remove in all, and `foresee` the same where `would_go` may mend what is torn; `needs` the direct dependencies of every
    installed package; `scripts` the text of maintainer scripts and `listed` the paths of packages; `purge` removes, also
    what a transaction that was cut off left half there, and of its second names leaves the configuration; `mark` gives
    commands; `leftovers` is what was unpacked of packages that the package manager does not know of; `mend` ends a
    transaction that was cut off, which runs scripts of packages, so that their purge needs to run none that make anything;
    `asides`: ends of names that it gives to configuration files."""

    plain: Callable[[Host], Callable[[str], str]]
    installed: Callable[[Host], set[str]]
    config_only: Callable[[Host], set[str]]
    would_go: Callable[[Host, list[str]], set[str]]
    needs: Callable[[Host], dict[str, set[str]]]
    purge: Callable[[Host, set[str], set[str]], None]
    mark: Callable[[Host, set[str], set[str]], list[Command]]
    scripts: Callable[[Host, set[str]], str]
    listed: Callable[[Host, set[str]], frozenset[str]]
    leftovers: Callable[[Host, set[str]], dict[str, Any]] = lambda host, names: traces.NOTHING
    asides: tuple[str, ...] = ()
    mend: Callable[[Host, set[str]], None] = lambda host, names: None
    foresee: Callable[[Host, list[str]], set[str]] | None = None


def packages(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Purge what this transaction brought, and what its scripts made besides. What something else needs now stays."""
    host, remover = context.host, REMOVERS[str(args["manager"])]
    plain = remover.plain(host)
    # First, so that what the scripts of a transaction that was cut off still make is seen below, and not made after it.
    remover.mend(host, victims(host, args, frozenset())[0])
    going, for_data = victims(host, args, context.needed_packages)
    going -= {plain(name) for name in context.with_older}
    kept = _staying(host, remover, going, remover.would_go)
    going -= kept
    made = _made(context, args)
    spare = _spared(context, args, going)
    if going:
        configured = going & configured_before(host, args)
        remover.purge(host, going - configured, configured)
    spared.put_back(host, spare)
    left = traces.remove(host, leftovers(context, args), frozenset())
    before = {plain(name) for name in args["before"]}
    for cmd in remover.mark(host, {plain(name) for name in args["manual"]}, before):
        host.run(cmd)
    if for_data:
        return Partly(f"packages stay for the data that stays: {_some(for_data)}")
    if kept:
        return Kept(f"packages that others need now stay: {_some(kept)}")
    now = remover.installed(host)
    later = remover.scripts(host, now - before)
    left += traces.remove(host, made, remover.listed(host, now), later)
    _residue(host, args.get("residue"), later)
    if left:
        return Kept("; ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else ""))
    return Reverted(f"{len(going)} packages removed" if going else "none to remove")


def victims(host: Host, args: dict[str, Any], needed: frozenset[str]) -> tuple[set[str], set[str]]:
    """What this transaction brought and is still there: (what goes, what stays because `needed` packages are part of it or
    depend on it). `brought` limits it to what was ours; without it, all that is new since."""
    remover = REMOVERS[str(args["manager"])]
    plain = remover.plain(host)
    now = remover.installed(host)
    new = now - {plain(name) for name in args["before"]}
    new |= (configured_before(host, args) & now) - remover.config_only(host)
    if args.get("brought") is not None:
        new &= {plain(name) for name in args["brought"]}
    for_data = _with_needs(new & needed, remover.needs(host), new) if needed else set()
    return new - for_data, for_data


def needed_by_others(host: Host, args: dict[str, Any], going: set[str], gone: frozenset[str]) -> set[str]:
    """Of `going`, what something else needs once `gone` are removed. Reads only; raises HostError where a transaction that was cut off keeps
    the package manager from telling."""
    remover = REMOVERS[str(args["manager"])]
    ask = remover.foresee or remover.would_go
    return _staying(host, remover, set(going), lambda host, names: ask(host, [*names, *sorted(gone)]) - gone)


def _staying(host: Host, remover: Remover, going: set[str], ask: Callable[[Host, list[str]], set[str]]) -> set[str]:
    kept: set[str] = set()
    while going:
        foreign = ask(host, sorted(going)) - going
        if not foreign:
            break
        stay = _with_needs(foreign, remover.needs(host), going) & going or set(going)  # better all than one of another
        kept |= stay
        going = going - stay
    return kept


def brought_by(undos: Iterable[Undo]) -> frozenset[str]:
    """Packages that these records list, by the names of the records."""
    return frozenset(name for undo in undos if undo.verb == "packages" for name in undo.args.get("brought") or ())


def configured_before(host: Host, args: dict[str, Any]) -> set[str]:
    """Packages of which only the configuration was there before (records of older versions do not tell)."""
    plain = REMOVERS[str(args["manager"])].plain(host)
    return {plain(name) for name in args.get("config_only", [])}


def survey_made(host: Host, args: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What this transaction has made besides its packages, as of now. To be asked while its packages are there."""
    remover = REMOVERS[str(args["manager"])]
    brought, _ = victims(host, args, frozenset())
    return traces.made(host, before, remover.scripts(host, brought), remover.listed(host, brought))


def known_traces(originals: Originals, args: dict[str, Any]) -> dict[str, Any] | None:
    """What was recorded; empty for a record of a version that did not look, None for a transaction that was cut off."""
    if "survey" not in args:
        return traces.NOTHING
    return traces.unpack(originals.read(str(args["made"]))) if "made" in args else None


def _survey(originals: Originals, args: dict[str, Any]) -> dict[str, Any]:
    """What `traces.survey` saw before this transaction."""
    return traces.unpack(originals.read(str(args["survey"])))


def _made(context: UndoContext, args: dict[str, Any]) -> dict[str, Any]:
    """As recorded when the transaction was done; of one that was cut off, found now and kept for the next attempt."""
    originals = context.originals
    found = known_traces(originals, args)
    if found is not None:
        return found
    late = originals.blob(f"{args['survey']}.made")
    if not context.host.exists(late):
        context.host.write_file(late, traces.pack(made_now(context, args)), mode=0o600)
    return traces.unpack(context.host.read_bytes(late))


def made_now(context: UndoContext, args: dict[str, Any]) -> dict[str, Any]:
    """What a transaction that was cut off has made so far. Changes nothing."""
    return survey_made(context.host, args, _survey(context.originals, args))


def still_to_be_made(context: UndoContext, args: dict[str, Any]) -> list[str]:
    """Paths that the scripts of a transaction that was cut off name and that have never been there: they may make them
    when it is brought to its end."""
    remover = REMOVERS[str(args["manager"])]
    brought, _ = victims(context.host, args, frozenset())
    before = set(_survey(context.originals, args)["paths"])
    paths = sorted(traces.named(remover.scripts(context.host, brought)) - before)
    return [path for path in paths if path.startswith(_BELOW_ROOTS) and context.host.stat(path) is None]


def spared_now(context: UndoContext, args: dict[str, Any], going: set[str]) -> dict[str, Any]:
    """What was there before this transaction and the purge of `going` may take."""
    if "survey" not in args:
        return {}
    host, remover = context.host, REMOVERS[str(args["manager"])]
    before = _survey(context.originals, args)
    return spared.look(host, before, remover.scripts(host, going), remover.listed(host, going), remover.asides)


def leftovers(context: UndoContext, args: dict[str, Any]) -> dict[str, Any]:
    """What a transaction that was cut off had unpacked of packages that are not there."""
    if args.get("brought") is None or known_traces(context.originals, args) is not None:
        return traces.NOTHING
    host, remover = context.host, REMOVERS[str(args["manager"])]
    found = remover.leftovers(host, {*args["brought"]} - remover.installed(host))
    there = set(_survey(context.originals, args)["paths"])
    return {**found, "paths": {path: row for path, row in found["paths"].items() if path not in there}}


def _spared(context: UndoContext, args: dict[str, Any], going: set[str]) -> dict[str, Any]:
    """The same, and what an attempt that was cut off found; on disk before anything goes."""
    if "survey" not in args:
        return {}
    file = context.originals.blob(f"{args['survey']}.spared")
    known = traces.unpack(context.host.read_bytes(file)) if context.host.exists(file) else {}
    found = {**known, **spared_now(context, args, going)}
    if found != known:
        context.host.write_file(file, traces.pack(found), mode=0o600)
    return found


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")


def _with_needs(start: set[str], needs: dict[str, set[str]], among: set[str]) -> set[str]:
    """`start` and everything in `among` that it needs, at any depth."""
    found, todo = set(start), list(start)
    while todo:
        for name in needs.get(todo.pop(), set()):
            if name in among and name not in found:
                found.add(name)
                todo.append(name)
    return found


def _residue(host: Host, residue: dict[str, Any] | None, later: str) -> None:
    """Users and groups that are known to stay behind, unless a package that came later (its scripts) has them too."""
    for name in (residue or {}).get("users", []):
        if host.user(name) is not None and name not in later:
            remove_user(host, name)
    for name in (residue or {}).get("groups", []):
        if host.group(name) is not None and name not in later:
            host.run(command("groupdel", name, ok=(0, 6, 8)))


# --- apt and dpkg


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
    """Names in Depends and Pre-Depends, every alternative (deb-substvars(5)); a Provides counts for its provider."""
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
    except CommandFailed:  # a transaction that was cut off is in the way
        _dpkg_mend(host, set(names))
        return _apt_foresee(host, names)


def _dpkg_mend(host: Host, going: set[str]) -> None:
    """A package that was cut off while it was being unpacked (“reinst-required”) is in the way: apt-get(8) does nothing
    at all while its archive is out of reach, and purging it fails when the archive is there. Those of `going` are unpacked
    again, so that dpkg(1) knows each of their files; without an archive dpkg removes what it knows of, which it needs to
    be told that it may."""
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
    if host.exists(_CONTROL):  # of a package that dpkg had only begun to look at; its next unpacking would clear it away
        host.remove_tree(_CONTROL)


def _dpkg_configure(host: Host) -> None:
    """Waits while another program (unattended-upgrades) has dpkg's lock, as apt-get would."""
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
    """Files that dpkg had written beside their places when it was cut off, by the control files of that package."""
    paths: list[str] = []
    for name in ("conffiles", "md5sums"):
        if host.exists(f"{_CONTROL}/{name}"):
            rows = (line.split() for line in host.read_text(f"{_CONTROL}/{name}").splitlines())
            paths += ["/" + row[-1].lstrip("/") + ".dpkg-new" for row in rows if row]
    return [path for path in paths if host.exists(path)]


_MAINTAINER_SCRIPTS = ("preinst", "postinst", "config", "prerm", "postrm")  # deb-maintainer-scripts(5)


def _dpkg_info(host: Host, names: set[str], kinds: tuple[str, ...]) -> Iterator[str]:
    """Contents of files of dpkg's database; it names them with the architecture where a package may be there twice."""
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
    # Essential in apt's eyes are also packages that a minimal system was made without, such as Debian 13's e2fsprogs.
    options = ("-y", "-q", "--allow-remove-essential", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0")
    # First what is not purged: the other way round it would be, along with what it needs.
    for verb, wanted in (("remove", configured - _dpkg_config_only(host)), ("purge", names)):
        there = sorted(wanted & _dpkg_installed(host))
        if there:
            host.run(command("apt-get", verb, *options, *there, env=_APT_ENV, timeout=1800))


def _apt_mark(host: Host, manual: set[str], before: set[str]) -> list[Command]:
    plain = _dpkg_plain(host)
    now = {plain(name) for name in host.run(command("apt-mark", "showmanual")).stdout.split()}
    present = _dpkg_installed(host) & before
    to_auto, to_manual = sorted((now - manual) & present), sorted((manual - now) & present)
    commands = [command("apt-mark", "auto", *to_auto)] if to_auto else []
    return commands + ([command("apt-mark", "manual", *to_manual)] if to_manual else [])


REMOVERS = {
    "apt": Remover(
        _dpkg_plain, _dpkg_installed, _dpkg_config_only, _apt_would_go, _dpkg_needs, _apt_purge, _apt_mark, _dpkg_scripts, _dpkg_listed,
        mend=_dpkg_mend,
        foresee=_apt_foresee,
    ),
    "dnf": Remover(
        lambda host: lambda name: name, rpms.installed, lambda host: set(), rpms.would_go, rpms.needs, rpms.purge,
        lambda host, manual, before: [], rpms.scripts, rpms.listed, rpms.leftovers, rpms.ASIDES,
    ),
}  # fmt: skip

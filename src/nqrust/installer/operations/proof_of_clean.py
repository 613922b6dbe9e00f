"""The host's fingerprint from before the first change, and the differences that remain after a complete uninstall."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nqrust.contract import paths
from nqrust.host.errors import HostError, ParseError
from nqrust.host.port import Host
from nqrust.installer import fingerprint
from nqrust.installer.engine.events import Notice, Reporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.fingerprint.model import Difference, Fingerprint
from nqrust.installer.release import bootstrap_record
from nqrust.installer.verbs.kernel import forwarding

_WITH_FORWARDING = re.compile(r"net\.ipv4\.(?:ip_forward|conf\.all\.accept_redirects|conf\..+\.forwarding)\Z")
"""Parameters that the kernel changes with it (ip-sysctl)."""

SHOWN = 25  # maximum differences in a summary; `nqr verify-clean` lists all

OURS_UNTIL_THE_END = (
    # The uninstall itself needs these while it compares. It removes each right after.
    (paths.STATE_DIR, "journal, originals and this very fingerprint"),
    (paths.CACHE_DIR, "the environment that nqr runs from when the bootstrap started it"),
    (paths.INSTALL_LOG_DIR, "the log of this run"),
)


def remember(host: Host) -> None:
    """Take and save the fingerprint. Replaces the fingerprint of an earlier attempt that changed nothing. Omits bootstrap
    files at a location that the caller chose, because an uninstall removes them."""
    taken, elsewhere = fingerprint.take(host), _elsewhere(host)
    for name in ("files", "folders"):
        for path in [path for path in taken.sections.get(name, ()) if _is_below(path, elsewhere)]:
            del taken.sections[name][path]
    if not host.exists(paths.STATE_DIR):
        host.mkdir(paths.STATE_DIR, mode=0o700)
    host.write_file(paths.FINGERPRINT, taken.to_bytes(compress=True), mode=0o600)


def kept(host: Host) -> Fingerprint | None:
    """Return the saved fingerprint; None if it is missing or unreadable."""
    try:
        return Fingerprint.from_bytes(host.read_bytes(paths.FINGERPRINT))
    except (HostError, ParseError):
        return None


def differences(host: Host, before: Fingerprint, *, forwards: bool = False) -> list[Difference]:
    """Return the differences from `before`, except files that this program still needs to finish. `forwards`: as of `tell`."""
    found, elsewhere = _compared(host, before, fingerprint.take(host), forwards), _elsewhere(host)
    return [
        one for one in found
        if one.section not in ("files", "folders") or not (_is_ours(one.key) or _is_below(one.key, elsewhere))
    ]  # fmt: skip


def differences_later(host: Host, before: Fingerprint, now: Fingerprint) -> list[Difference]:
    """Return the differences at any time after the uninstall. Ignores removals of bootstrap folders that `before` lists."""
    found = _compared(host, before, now, bool(forwarding.signs(host)))
    return [one for one in found if one.after is not None or not _is_ours(one.key)]


def _compared(host: Host, before: Fingerprint, now: Fingerprint, forwards: bool) -> list[Difference]:
    """Return the differences, without forwarding that is on because others use it."""
    found = fingerprint.compare(before, now)
    if not forwards or Difference("sysctls", forwarding.FORWARDING, "0", "1") not in found:
        return found
    return [one for one in found if one.section != "sysctls" or not _WITH_FORWARDING.match(one.key)]


def kept_forwarding(journal: Journal) -> bool:
    """Return whether a revert left forwarding on for others. The programs that list their rules may have gone since."""
    return any(record.type == "kept" and record.body.get("where") == forwarding.FILE for record in journal.records)


def tell(host: Host, events: Reporter, *, forwards: bool = False) -> tuple[str, ...]:
    """Return sentences for the summary of a complete uninstall. `forwards`: it left forwarding on for others."""
    before = kept(host)
    if before is None:
        return ()
    try:
        found = differences(host, before, forwards=forwards)
    except HostError as error:
        events.emit(Notice("warning", f"nqr could not compare the host with its state before the install: {error}."))
        return ()
    if not found:
        return ("This host is back to its state before the install: nothing differs from its fingerprint.",)
    lines = [line.strip() for line in fingerprint.render(found, limit=SHOWN).splitlines() if line.startswith("  ")]
    head = f"{len(found)} {'thing differs' if len(found) == 1 else 'things differ'} from before the install"
    return (f"{head}; what is not listed above as left on purpose was changed by others meanwhile:", *lines)


def _is_ours(path: str) -> bool:
    return _is_below(path, ((top, True) for top, _ in OURS_UNTIL_THE_END))


def _is_below(path: str, tops: Iterable[tuple[str, bool]]) -> bool:
    """Return whether the path is below one of these folders, or (True) is that folder."""
    return any((with_itself and path == top) or path.startswith(f"{top}/") for top, with_itself in tops)


def _elsewhere(host: Host) -> tuple[tuple[str, bool], ...]:
    try:
        return bootstrap_record.elsewhere(host)
    except HostError:
        return ()

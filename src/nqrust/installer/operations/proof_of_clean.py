"""The host's fingerprint from before the first change, and what is different once everything has been taken back."""

from __future__ import annotations

from collections.abc import Iterable

from nqrust.contract import paths
from nqrust.host.errors import HostError, ParseError
from nqrust.host.port import Host
from nqrust.installer import fingerprint
from nqrust.installer.engine.events import Notice, Reporter
from nqrust.installer.fingerprint.model import Difference, Fingerprint
from nqrust.installer.release import bootstrap_record

SHOWN = 25  # differences that a summary lists; `nqr verify-clean` lists all

OURS_UNTIL_THE_END = (
    # What the uninstall itself still needs while it compares; each goes right after.
    (paths.STATE_DIR, "journal, originals and this very fingerprint"),
    (paths.CACHE_DIR, "the environment that nqr runs from when the bootstrap started it"),
    (paths.INSTALL_LOG_DIR, "the log of this run"),
)


def remember(host: Host) -> None:
    """Take the fingerprint and keep it, without what the bootstrap has made at a place of the caller's choice: an uninstall
    removes that. One of an earlier attempt that changed nothing is replaced."""
    taken, elsewhere = fingerprint.take(host), _elsewhere(host)
    for name in ("files", "folders"):
        for path in [path for path in taken.sections.get(name, ()) if _is_below(path, elsewhere)]:
            del taken.sections[name][path]
    if not host.exists(paths.STATE_DIR):
        host.mkdir(paths.STATE_DIR, mode=0o700)
    host.write_file(paths.FINGERPRINT, taken.to_bytes(compress=True), mode=0o600)


def kept(host: Host) -> Fingerprint | None:
    """The kept fingerprint; None when there is none, or none that can be read."""
    try:
        return Fingerprint.from_bytes(host.read_bytes(paths.FINGERPRINT))
    except (HostError, ParseError):
        return None


def differences(host: Host, before: Fingerprint) -> list[Difference]:
    """What is not as it was, without what this program still needs to end."""
    found, elsewhere = fingerprint.compare(before, fingerprint.take(host)), _elsewhere(host)
    return [
        one for one in found
        if one.section not in ("files", "folders") or not (_is_ours(one.key) or _is_below(one.key, elsewhere))
    ]  # fmt: skip


def differences_later(before: Fingerprint, now: Fingerprint) -> list[Difference]:
    """What is not as it was, any time after the uninstall: what `before` saw of the bootstrap's folders may be gone."""
    return [one for one in fingerprint.compare(before, now) if one.after is not None or not _is_ours(one.key)]


def tell(host: Host, events: Reporter) -> tuple[str, ...]:
    """Sentences for the summary of an uninstall that took everything back."""
    before = kept(host)
    if before is None:
        return ()
    try:
        found = differences(host, before)
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
    """Below one of these folders, or (True) that folder itself."""
    return any((with_itself and path == top) or path.startswith(f"{top}/") for top, with_itself in tops)


def _elsewhere(host: Host) -> tuple[tuple[str, bool], ...]:
    try:
        return bootstrap_record.elsewhere(host)
    except HostError:
        return ()

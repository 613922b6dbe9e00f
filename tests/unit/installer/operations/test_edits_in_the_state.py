"""An uninstall removes its own state. An edit that it moved aside there stays, as it says."""

from __future__ import annotations

from tests.unit.installer.operations.a_used_platform import Bench, bench, uninstall
from tests.unit.installer.phases.a_host import fit

from nqrust.contract import paths
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File

__all__ = ["bench"]
KEPT = f"{paths.REACH_ENV}.nqr-kept"
INSIDE = f"{paths.STATE_DIR}/dhcp/conf"
STEPS = (
    Directory(paths.STATE_DIR, mode=0o711, adopt_modes=True),
    File(paths.REACH_ENV, "https_proxy=http://a:1\n", mode=0o600),
    Directory(f"{paths.STATE_DIR}/dhcp", tree=True),
    File(INSIDE, "one\n"),
)


def test_an_edit_in_the_state_stays_after_an_uninstall(bench: Bench) -> None:
    bench.host.put_directory(paths.STATE_DIR, mode=0o700)
    for text in ("https_proxy=http://b:2\n", "https_proxy=http://c:3\n"):
        bench.run(*STEPS)
        bench.host.put(paths.REACH_ENV, text, mode=0o600)
        bench.host.put(INSIDE, text)
        bench.host.put(f"{paths.STATE_DIR}/dhcp/leases", "of nqr")
        done = uninstall()
        assert done.outcome == "ok" and any("your version is kept" in note and KEPT in note for note in done.notes)
    assert bench.host.listdir(paths.STATE_DIR) == ["dhcp", "reach.env.nqr-kept", "reach.env.nqr-kept.2"]
    assert bench.host.listdir(f"{paths.STATE_DIR}/dhcp") == ["conf.nqr-kept", "conf.nqr-kept.2"]
    assert bench.host.read_text(KEPT) == "https_proxy=http://b:2\n"
    assert uninstall().outcome == "ok" and bench.host.exists(KEPT), "also where nothing is installed"


def test_an_edit_that_was_kept_is_no_other_installation(bench: Bench) -> None:
    for path in (KEPT, f"{Settings().paths.install_dir}/nqr.nqr-kept"):
        bench.host.put(path, "mine")
    assert run(Settings(), fit(), bench.host, Situation()) == []

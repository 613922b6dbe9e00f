"""Each verb that opens a release refuses plain HTTP without a key, and an older release, before it asks or changes anything."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from tests.fakes.release_web import Web, web
from tests.unit.installer.effects.a_bench import Bench, bench
from tests.unit.installer.phases.a_host import fit

from nqrust.contract import paths
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.operations.site import Site
from nqrust.installer.rehearsal import means, operation

__all__ = ["bench", "web"]
VERBS = (("install",), ("install", "--dry-run"), ("install", "--rehearse"), ("plan",), ("phase", "run", "config"),
         ("phase", "run", "preflight"))  # fmt: skip


def site(bench: Bench) -> Site:
    return Site(bench.host, Journal(bench.store, bench.host.now), Originals(bench.host, paths.ORIGINALS_DIR))


@pytest.fixture
def it(bench: Bench, web: Web, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose host can rehearse."""
    monkeypatch.setattr(operation, "exclusive", lambda *_: contextlib.nullcontext(contextlib.nullcontext))
    monkeypatch.setattr(operation, "open_site", lambda events: site(bench))
    monkeypatch.setattr(operation, "facts_for", lambda *_: fit())
    monkeypatch.setattr(means, "refuse_without_card", lambda host: None)
    monkeypatch.setattr(operation, "_run", lambda *_: pytest.fail("a clone was made"))
    return bench


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "--rehearse" not in verb], ids=" ".join)
def test_plain_http_without_a_key_is_refused(verb: tuple[str, ...], it: Bench, web: Web) -> None:
    before = it.store.data
    assert it.nqr(*verb, "--release", "http://releases.example/v0.5.0") == 3
    assert "NQR-REL-027" in it.err and "--release-key" in it.err
    assert web.asked == [] and it.host.mutations == [] and it.store.data == before


def test_a_rehearsal_of_a_release_from_elsewhere_is_refused(it: Bench, web: Web) -> None:
    assert it.nqr("install", "--rehearse", "--release", "https://releases.example/v0.5.0") == 3
    assert "NQR-RHS-011" in it.err and web.asked == []


def test_a_rehearsal_of_a_tree_in_upstreams_form_is_refused(it: Bench, tmp_path: Path) -> None:
    (tmp_path / "Cargo.toml").touch()
    it.host.put(f"{tmp_path}/Cargo.toml", '[workspace]\nmembers = ["manager"]\n')
    it.host.put(f"{tmp_path}/manager/Cargo.toml", '[package]\nname = "manager"\n')
    assert it.nqr("install", "--rehearse", "--source", str(tmp_path)) == 3
    assert "NQR-RHS-011" in it.err and "--source" in it.err


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "--rehearse" not in verb], ids=" ".join)
def test_an_older_release_is_refused(verb: tuple[str, ...], it: Bench) -> None:
    """A rehearsal refuses every host with an installation."""
    assert it.nqr("install") == 0
    it.host.put_directory("/opt/nqrust-microvm")
    it.host.symlink("releases/9.0.0", "/opt/nqrust-microvm/current")
    before = it.store.data
    assert it.nqr(*verb) == 3 and "NQR-REL-033" in it.err and "--allow-downgrade" in it.err
    assert it.host.mutations == [] and it.store.data == before

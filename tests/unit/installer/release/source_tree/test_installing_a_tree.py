"""An install from a source tree in upstream's form: what it plans, and what it needs of the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.effects.observing import RELEASE
from tests.unit.installer.release.source_tree.test_cargo_workspace import TREE, tree
from tests.unit.installer.release.source_tree.test_source_builds import with_rust

from nqrust.host.port import Host
from nqrust.installer.distro.debian import DEBIAN
from nqrust.installer.engine.errors import ReleaseError, StepFailed
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.progress import silent
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.operations import site
from nqrust.installer.release import node_wheel, upstream
from nqrust.installer.release.source_tree import build, queries, tree_step, workplace
from nqrust.installer.release.source_tree.tree_step import BuildTree, tools
from nqrust.installer.release.sources import open_own, open_source, own_steps, source_steps
from nqrust.installer.settings.model import Settings

MACROS = 'let rows = sqlx::query_as!(Vm, "SELECT 1").fetch_all(&pool);\n'


def settings(**more: Any) -> Settings:
    return Settings.model_validate({"release": {"source_dir": TREE}, **more})


def step(host: FakeHost, **more: Any) -> BuildTree:
    host.put_directory("/var/cache")
    opened = open_source(host, settings(**more), "", "/var/cache/x", NullReporter())
    (made,) = source_steps(settings(**more), "", opened, "/var/cache/x")
    assert isinstance(made, BuildTree)
    return made


def test_release_of_a_tree_has_the_tools_form_and_a_version_of_its_content() -> None:
    found = open_source(tree(), settings(), "", "/c", NullReporter())
    assert found.release.form == "upstream" and found.release.component("ui") is not None
    assert found.release.version.startswith("1.4.0+") and found.directory == f"/c/releases/{found.release.version}"
    again = open_source(tree(), settings(), "", "/c", NullReporter())
    assert again.release == found.release
    changed = tree(**{"apps/manager/src/main.rs": "fn main() {}\n"})
    assert open_source(changed, settings(), "", "/c", NullReporter()).release.version != found.release.version
    untouched = tree(**{"target/x": "", "node_modules/x": "", ".git/HEAD": "", "apps/ui/.next/x": ""})
    assert open_source(untouched, settings(), "", "/c", NullReporter()).release.version == found.release.version
    for without in ({"mode": "minimal"}, {"components": {"ui": False}}):
        assert open_source(tree(), settings(**without), "", "/c", NullReporter()).release.component("ui") is None


def test_nqr_itself_comes_from_its_own_tree() -> None:
    """The checkout that nqr was started from, not the tree that --source names."""
    host = tree()
    for name in ("guest-agent/Cargo.toml", "requirements/manager.txt", "src/nqrust/__init__.py"):
        host.put(f"/own/{name}", "")
    host.put("/own/pyproject.toml", '[project]\nversion = "0.3.0"\n')
    own = open_own(host, settings(), "/own", "/c")
    (made,) = own_steps(settings(), "/own", own, "/c")
    assert own.release.form == "bundled" and made.kind == "build-release" and made.describe().endswith("from /own")


@pytest.mark.parametrize(
    ("form", "folder"),
    [("bundled", "/opt/nqrust-microvm/installer/bundle"), ("upstream", "/var/cache/nqrust-microvm/releases/1")],
)
def test_looking_at_an_installation_does_not_open_its_tree(form: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree may have changed since, or be gone."""
    installed = RELEASE.model_copy(update={"form": form, "version": "1"})
    monkeypatch.setattr(site, "installed_release", lambda *_: installed)
    files, _ = site._files(FakeHost.debian12(), settings(), "", NullReporter(), True)
    assert (files.release, files.directory, files.steps) == (installed, folder, ())
    with pytest.raises(ReleaseError):
        site._files(FakeHost.debian12(), settings(), "", NullReporter(), False)


LOCK = '[[package]]\nname = "sqlx"\nversion = "0.8.6"\n'
NONE: dict[str, tuple[int, ...]] = {}


def test_checked_queries_need_prepared_ones_or_a_database() -> None:
    asking = {"Cargo.lock": LOCK, "apps/manager/src/main.rs": MACROS}
    with pytest.raises(ReleaseError) as caught:
        tools(tree(**asking), TREE, NONE, database=False)
    assert caught.value.code == "NQR-REL-080" and "apps/manager/src/main.rs" in caught.value.what
    assert "cargo sqlx prepare" in caught.value.cure
    assert tools(tree(**asking), TREE, NONE, database=True) == ("build",), "the install brings a server"
    server = tree(**asking)
    server.put("/usr/lib/postgresql/9.6/bin/initdb", "")
    server.put("/usr/lib/postgresql/15/bin/initdb", "")
    assert tools(server, TREE, NONE, database=False) == ("build",)
    assert queries.server_programs(server) == "/usr/lib/postgresql/15/bin"
    for other in ({".sqlx/query-1.json": "{}"}, {"apps/manager/src/main.rs": MACROS.replace("!", "")}, {"Cargo.lock": ""}):
        tools(tree(**{**asking, **other}), TREE, NONE, database=False)


def test_build_itself_refuses_queries_that_nothing_can_check() -> None:
    host = with_rust(tree(**{"Cargo.lock": LOCK, "apps/manager/src/main.rs": MACROS}), "1.80.0")
    with pytest.raises(ReleaseError) as caught:
        build.build(host, tree=TREE, to="/out", scratch="/var/tmp/b", with_ui=False, progress=silent)
    assert caught.value.code == "NQR-REL-080"


def test_tools_come_from_the_distribution_where_they_are_new_enough() -> None:
    new, old = DEBIAN.editions[12].versions, DEBIAN.editions[11].versions
    assert tools(tree(), TREE, new, database=True) == ("recent-rust",)
    assert tools(tree(), TREE, old, database=True) == ("build",), "the build brings Rust, and needs a linker"
    newer = tree(**{"rust-toolchain.toml": '[toolchain]\nchannel = "1.90.0"\n'})
    assert tools(newer, TREE, new, database=True) == ("build",)
    here = with_rust(tree(), "1.80.0")
    assert tools(here, TREE, old, database=True) == ("build",), "a linker"
    here.install("cc")
    assert tools(here, TREE, old, database=True) == ()
    # Its package would have to go for a newer one.
    assert tools(with_rust(tree(), "1.63.0"), TREE, new, database=True) == ("build",)


def built(host: FakeHost, made: BuildTree, patch: pytest.MonkeyPatch, **given: Any) -> list[dict[str, Any]]:
    """Replace the build itself by one that leaves its files. Return what it was asked for."""
    asked: list[dict[str, Any]] = []

    def build_tree(host: Host, **wanted: Any) -> str:
        asked.append(wanted)
        host.mkdir(wanted["to"], mode=0o755)
        for name in upstream.ASSETS.values():
            host.write_file(f"{wanted['to']}/{name}", name.encode())
        host.write_file(f"{wanted['to']}.log", b"output\n")
        if given.get("fails"):
            raise workplace.failed("cargo", "it did not compile")
        return "1.4.0"

    patch.setattr(build, "build", build_tree)
    patch.setattr(FakeHost, "kill_all_of", lambda *_: None)
    return asked


def test_built_release_is_complete_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    host = with_rust(tree(), "1.80.0")
    made = step(host)
    for program in ("node", "npm"):
        host.install(program)
    host.on("/usr/bin/node", "--version", answer="v22.1.0\n")
    asked = built(host, made, monkeypatch)
    assert isinstance(made.inspect(host), Needed)
    made.apply(host)
    made.verify(host)
    assert [(one["tree"], one["with_ui"], one["node"]) for one in asked] == [(TREE, True, "")]
    assert isinstance(step(host, mode="minimal").inspect(host), Satisfied), "a mode without the web UI takes it too"
    host.remove(f"{made.directory}/{upstream.ASSETS['agent']}")
    assert isinstance(made.inspect(host), Needed)


def test_node_of_the_package_index_builds_the_ui_where_the_host_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    host = with_rust(tree(), "1.80.0")
    made = step(host)
    monkeypatch.setattr(node_wheel, "fetch", lambda host, **_: "/var/cache/x/node/24.1.0")
    asked = built(host, made, monkeypatch)
    made.apply(host)
    assert asked[0]["node"] == "/var/cache/x/node/24.1.0"


def test_failed_build_names_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    host = with_rust(tree(), "1.80.0")
    made = step(host, mode="minimal")
    built(host, made, monkeypatch, fails=True)
    with pytest.raises(StepFailed) as caught:
        made.apply(host)
    assert caught.value.code == "NQR-REL-091" and f"{made.directory}.built.log" in caught.value.cure
    assert isinstance(made.inspect(host), Needed)


def test_tree_that_changes_meanwhile_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    host = with_rust(tree(), "1.80.0")
    made = step(host, mode="minimal")
    asked = built(host, made, monkeypatch)
    host.put(f"{TREE}/apps/manager/src/main.rs", "fn main() {}\n")
    with pytest.raises(StepFailed) as caught:
        made.apply(host)
    assert caught.value.code == "NQR-REL-006" and asked == []


def test_build_that_was_killed_is_ended_and_removed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    host, ended = FakeHost.debian12(), []
    monkeypatch.setattr(FakeHost, "kill_all_of", lambda _, user, other: ended.append((user, other)))
    host.add_user("b", 61002)
    host.put(f"{tree_step.SCRATCH}/home/x", "")
    host.set_mode(f"{tree_step.SCRATCH}/home", mode=0o700, owner="b", group="root")
    workplace.clear(host, tree_step.SCRATCH)
    assert ended == [(61002, 61003)] and not host.exists(tree_step.SCRATCH)
    workplace.clear(host, tree_step.SCRATCH)
    assert len(ended) == 1, "nothing is left"


def test_scratch_folder_is_where_only_root_can_make_one() -> None:
    assert Path(tree_step.SCRATCH).parent == Path("/var/lib/nqrust-microvm")

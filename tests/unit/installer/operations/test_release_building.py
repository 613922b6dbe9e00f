"""`nqr release build`: the tools that it brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nqrust.host.port import Host
from nqrust.installer.operations import release_building
from nqrust.installer.operations.release_building import build_release
from nqrust.installer.release import node_wheel
from nqrust.installer.release.source_tree import build, web


@pytest.mark.parametrize(
    ("has_node", "ui", "with_ui", "brought"),
    [(False, True, True, True), (True, True, True, False), (False, False, True, False), (False, True, False, False)],
)
def test_node_comes_from_the_package_index_and_goes_after_the_build(
    has_node: bool, ui: bool, with_ui: bool, brought: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, scratch, asked = tmp_path / "tree", tmp_path / "build", list[dict[str, Any]]()
    (tree / "apps/ui").mkdir(parents=True)
    if ui:
        (tree / "apps/ui/package.json").write_text("{}")

    def fetch(host: Host, *, lock: str, cache: str, **_: Any) -> str:
        assert lock == "/src/nqr/requirements/node.txt"
        Path(cache).mkdir()
        return f"{cache}/node/24"

    monkeypatch.setattr(web, "has_node", lambda _: has_node)
    monkeypatch.setattr(node_wheel, "fetch", fetch)
    monkeypatch.setattr(build, "build", lambda host, **given: asked.append(given) or "1.0")
    given: dict[str, Any] = {"with_ui": with_ui, "checkout": "/src/nqr", "progress": lambda text, fraction: None}
    assert build_release(str(tree), "/out", str(scratch), **given) == "1.0"
    assert asked[0]["node"] == (f"{scratch}.tools/node/24" if brought else "") and asked[0]["scratch"] == str(scratch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree"]


def test_installed_nqr_has_the_lock_beside_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks: list[str] = []
    monkeypatch.setattr(web, "has_node", lambda _: False)
    monkeypatch.setattr(node_wheel, "fetch", lambda host, *, lock, **_: locks.append(lock) or "/node")
    monkeypatch.setattr("sys.prefix", "/opt/nqrust-microvm/installer/venv")
    release_building._node(release_building.LocalHost(), "", str(tmp_path / "tools"), lambda text, fraction: None)
    assert locks == ["/opt/nqrust-microvm/installer/bundle/requirements/node.txt"]

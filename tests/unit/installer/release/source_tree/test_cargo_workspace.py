"""A source tree in upstream's form, read from its files."""

from __future__ import annotations

import json

import pytest
from tests.fakes.host import FakeHost

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.source_tree import cargo_workspace
from nqrust.installer.release.source_tree.cargo_workspace import Workspace
from nqrust.installer.release.source_tree.forms import form_of

TREE = "/src/tree"
MANIFEST = '[workspace]\nmembers = [\n  "apps/*", # programs\n]\n\n[workspace.package]\nversion = "1.4.0"\n'


def tree(**changed: str | None) -> FakeHost:
    """A complete tree; `changed`: content by file, None for a missing one."""
    host = FakeHost.debian12()
    files: dict[str, str | None] = {
        "Cargo.toml": MANIFEST,
        "Cargo.lock": "version = 4\n",
        **{
            f"apps/{name}/Cargo.toml": f'[package]\nname = "{name}"\nversion.workspace = true\n'
            for name in cargo_workspace.PACKAGES
        },
        "apps/ui/package.json": json.dumps({"name": "ui", "packageManager": "pnpm@9.8.0+sha512.abc"}),
        "apps/ui/pnpm-lock.yaml": "lockfileVersion: '9.0'\n",
    }
    for name, text in {**files, **changed}.items():
        if text is not None:
            host.put(f"{TREE}/{name}", text)
    return host


def test_tree_names_its_version_its_ui_and_its_pnpm() -> None:
    assert cargo_workspace.read(tree(), TREE) == Workspace("1.4.0", True, "apps/ui", "9.8.0")


@pytest.mark.parametrize(
    ("changed", "read"),
    [
        ({"apps/manager/Cargo.toml": '[package]\nname = "manager"\nversion = "2.0.0-rc.1"\n'}, Workspace("2.0.0-rc.1", True, "apps/ui", "9.8.0")),
        ({"apps/ui/package.json": None}, Workspace("1.4.0")),
        ({"apps/ui/package.json": "{}"}, Workspace("1.4.0", True, "apps/ui", cargo_workspace.PNPM)),
        ({"apps/ui/package.json": "{}", "package.json": '{"packageManager": "pnpm@10.1.2"}'}, Workspace("1.4.0", True, "apps/ui", "10.1.2")),
        ({"apps/ui/pnpm-lock.yaml": None, "pnpm-lock.yaml": ""}, Workspace("1.4.0", True, ".", "9.8.0")),
        ({"apps/manager/.sqlx/query-1.json": "{}"}, Workspace("1.4.0", True, "apps/ui", "9.8.0", sqlx_offline=True)),
        ({"Cargo.lock": '[[package]]\nname = "sqlx"\nversion = "0.8.6"\n'}, Workspace("1.4.0", True, "apps/ui", "9.8.0", sqlx="0.8.6")),
        ({"migrations/1.sql": ""}, Workspace("1.4.0", True, "apps/ui", "9.8.0", migrations="migrations")),
        ({"apps/manager/migrations/1.sql": ""}, Workspace("1.4.0", True, "apps/ui", "9.8.0", migrations="apps/manager/migrations")),
    ],
)  # fmt: skip
def test_variants_of_a_tree(changed: dict[str, str | None], read: Workspace) -> None:
    assert cargo_workspace.read(tree(**changed), TREE) == read


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"apps/agent/Cargo.toml": None}, "no package agent"),
        ({"Cargo.lock": None}, "no Cargo.lock"),
        ({"apps/ui/pnpm-lock.yaml": None}, "no pnpm-lock.yaml"),
        ({"Cargo.toml": '[workspace]\nmembers = ["apps/*"]\n'}, "no version"),
    ],
)
def test_incomplete_tree_is_refused_by_name(changed: dict[str, str | None], missing: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        cargo_workspace.read(tree(**changed), TREE)
    assert caught.value.code == "NQR-REL-090" and missing in caught.value.what


def test_form_comes_from_the_files() -> None:
    assert form_of(tree(), TREE) == "cargo-workspace"
    own = FakeHost.debian12()
    own.put(f"{TREE}/pyproject.toml", "[project]\n")
    own.put(f"{TREE}/src/nqrust/__init__.py", "")
    assert form_of(own, TREE) == "nqrust"
    other = FakeHost.debian12()
    other.put(f"{TREE}/Cargo.toml", '[workspace]\nmembers = ["x"]\n')
    other.put(f"{TREE}/x/Cargo.toml", '[package]\nname = "x"\n')
    assert form_of(other, TREE) is None and form_of(FakeHost.debian12(), TREE) is None

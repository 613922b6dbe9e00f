"""Programs of a build see nothing that is closed to them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import silent
from nqrust.installer.release.source_tree.workplace import Workplace, close_workplace, open_workplace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="as root, builds run as another user")


@pytest.fixture(params=[True, False], ids=["with mounts", "where root may not mount"])
def place(request: pytest.FixtureRequest) -> Iterator[Workplace]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        tree = Path(folder) / "source"
        (tree / "apps" / "ui").mkdir(parents=True)
        place = open_workplace(LocalHost(), f"{folder}/scratch", str(tree), silent)
        if request.param and not place.hides:
            pytest.skip("this machine does not let root mount")
        place.hides = request.param
        try:
            yield place
        finally:
            close_workplace(place)


def test_a_link_in_the_tree_leads_no_program_into_a_closed_folder(place: Workplace) -> None:
    with tempfile.TemporaryDirectory(dir="/opt") as closed:
        inner = Path(closed) / "project"
        inner.mkdir(mode=0o755)
        (inner / "settings").write_text("password")
        where = f"{place.folder}/tree/apps/ui"
        assert place.run("pwd", cwd=where).strip() == where
        place.run("sh", "-c", f"rmdir apps/ui && ln -s {inner} apps/ui")
        with pytest.raises(ReleaseError) as refused:
            place.run("cat", "settings", cwd=where)
        assert "leads out of the build" in refused.value.what

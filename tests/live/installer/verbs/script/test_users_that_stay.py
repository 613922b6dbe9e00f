"""An undo script leaves a user while something of it stays. The next account could get its number."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote

import pytest
from tests.live.installer.verbs.script.test_folders_of_others import NOBODY, sh

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")

_PROGRAMS = 'usermod() { :; }\nuserdel() { echo "userdel $1"; }\n'


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("owner", [NOBODY, 0])
def test_user_stays_while_what_is_its_stays(tmp_path: Path, stays: bool, owner: int) -> None:
    images = tmp_path / "it's images"
    (images / "mine").mkdir(parents=True)
    (images / "mine" / "rootfs.ext4").write_text("x")
    os.chown(images / "mine" / "rootfs.ext4", owner, -1)
    kept = f"stays {quote(str(images))}\nstays {quote(f'{tmp_path}/gone')}\n" if stays else ""
    said = sh(f"{_PROGRAMS}{kept}remove_user nobody")
    held = stays and owner == NOBODY
    assert ("user nobody, because files that stay are its" in said) == held and ("userdel nobody" in said) != held, said
    assert "failed: 0" in said

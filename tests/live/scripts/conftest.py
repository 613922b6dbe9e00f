"""Folders of these tests: `NQR_CACHE_DIR` names none that others could replace."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(roots_folder: Path) -> Path:
    return roots_folder

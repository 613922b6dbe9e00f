"""Where things stand in the checkout, for tests, which may move."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
TABLES = TESTS / "tables"
GOLDEN = TESTS / "golden"
SCRIPTS = TESTS / "machine_scripts"
HELPER = ROOT / "src/nqrust/installer/release/helper/nqrust-helper"

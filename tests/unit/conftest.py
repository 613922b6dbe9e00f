"""Unit tests start no program but Python's interpreter. A test that needs another one belongs to tests/live."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def only_python_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a test starts a real program: the programs of one machine would decide the result."""
    start = subprocess.Popen.__init__

    def guarded(self: subprocess.Popen[Any], args: Any, *more: Any, **named: Any) -> None:
        program = args if isinstance(args, (str, bytes, os.PathLike)) else next(iter(args))
        if named.get("shell") or os.fsdecode(program) != sys.executable:
            # Else its __del__ would miss the attribute of a process that never was.
            self._child_created = False  # type: ignore[attr-defined]
            pytest.fail(f"a unit test starts {os.fsdecode(program)}: move the test to tests/live, or use the fake host")
        start(self, args, *more, **named)

    monkeypatch.setattr(subprocess.Popen, "__init__", guarded)

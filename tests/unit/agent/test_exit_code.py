"""The exit code that a guest's init told on the console: that of the last run, and of no run before it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.agent.vms.status import CONTINUES, Observer

RAN = b"nqr-init: started httpd\r\r\n"
ENDED = b"nqr-init: ended with code 143\r\r\n"


@pytest.mark.parametrize(
    ("log", "code"),
    [
        (b"", None),
        (RAN, None),
        (RAN + ENDED, 143),
        (RAN + ENDED + b"Linux version 6.1\r\r\n" + RAN, None),
        (RAN + ENDED + b"\n" + CONTINUES + b"\n", None),
        (RAN + ENDED + b"\n" + CONTINUES + b"\nGET / HTTP/1.1\r\r\n", None),
        (RAN + b"\n" + CONTINUES + b"\n" + ENDED, 143),
        (RAN + b"nqr-init: ended with code 999\r\r\n", None),
    ],
    ids=["empty", "runs", "ended", "next boot", "restored", "restored and busy", "restored and ended", "no code"],
)
def test_only_the_last_run_counts(tmp_path: Path, log: bytes, code: int | None) -> None:
    (tmp_path / "console.log").write_bytes(log)
    store: Any = SimpleNamespace(directory=lambda vm_id: str(tmp_path))
    unused: Any = None
    assert Observer(unused, store, unused, {}, "h1").exit_code("v1") == code

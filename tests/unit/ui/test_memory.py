"""A signed-in user cannot fill the memory of the web UI with one page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.browser.world import PASSWORD
from tests.places import ROOT
from tests.unit.ui.browsers import answers, free_port, opened, sign_in, web_ui

from nqrust.ui import session
from nqrust.ui.__main__ import STORAGE_VARIABLE
from nqrust.ui.pace import MESSAGE_SECONDS, MESSAGES_AT_ONCE, PacedMessages


async def test_a_page_keeps_few_dialogs() -> None:
    """Each click on a menu makes another dialog. Only a browser closes the former one first."""
    number = free_port()
    command = [sys.executable, "-m", "tests.browser.fake_manager", str(number)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as manager:
        try:
            answers(f"http://127.0.0.1:{number}/health", manager)
            with web_ui(f"http://127.0.0.1:{number}") as (port, process):
                async with httpx.AsyncClient(timeout=30) as client:
                    async with opened(port, client) as page:
                        await sign_in(page, "victor", PASSWORD)
                        await page.until('"open"')
                    async with opened(port, client, "/images") as page:
                        entry, before = page.having("click", "Change password"), _memory(process)
                        for _ in range(400):
                            await page.socket.send(page.event(entry, "click", {}))
                            await page.until("Change your password")
                        # NiceGUI keeps the last thousand messages besides, of 25 MiB here.
                        assert _memory(process) - before < 35
        finally:
            manager.terminate()


async def test_messages_of_a_source_come_at_a_pace() -> None:
    now = [100.0]
    paced: Any = PacedMessages(None, lambda: now[0])  # type: ignore[arg-type]
    assert all(paced._turns.wait("192.0.2.1") < 0.001 for _ in range(MESSAGES_AT_ONCE))
    assert [round(paced._turns.wait("192.0.2.1") / MESSAGE_SECONDS) for _ in range(3)] == [1, 2, 3]
    assert paced._turns.wait("192.0.2.2") <= 0
    now[0] += 10 * MESSAGE_SECONDS
    assert paced._turns.wait("192.0.2.1") <= 0


async def test_the_server_reads_more_messages_later() -> None:
    with web_ui("http://127.0.0.1:9") as (port, _):
        async with httpx.AsyncClient(timeout=30) as client, opened(port, client) as page:
            begun = time.monotonic()
            for _ in range(MESSAGES_AT_ONCE + 200):
                await page.socket.send('42["nothing"]')
            told = {"client_id": "none", "tab_id": "t", "document_id": "d"}
            await page.socket.send("428" + json.dumps(["handshake", told]))
            await page.until("438")
            assert time.monotonic() - begun > 150 * MESSAGE_SECONDS


def _memory(process: int) -> int:
    """Return MiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) // 1024


def test_files_of_sessions_whose_time_is_over_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may sign in could fill the disk: each sign-in makes a file, and only signing out removes it."""
    old, new, other = (tmp_path / name for name in ("storage-user-old.json", "storage-user-new.json", "storage-other.json"))
    for file in (old, new, other):
        file.write_text('{"a": 1}')
    for file in (old, other):
        os.utime(file, (time.time() - session.KEPT - 60,) * 2)
    monkeypatch.setenv(STORAGE_VARIABLE, str(tmp_path))
    with web_ui("http://127.0.0.1:9"):
        for _ in range(100):
            if not old.exists():
                break
            time.sleep(0.1)
    assert sorted(tmp_path.glob("storage-*")) == [other, new]

"""A release in upstream's form, on a server of this process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.web import serve

from nqrust.installer.release import upstream


@pytest.fixture(name="release")
def served_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served" / "v0.4.2"
    folder.mkdir(parents=True)
    lines = []
    for name in (*upstream.ASSETS.values(), "alpine.ext4", "vmlinux-6.1"):
        (folder / name).write_bytes(name.encode() * 100)
        lines.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  ./dist/{name}")
    (folder / upstream.CHECKSUMS).write_text("\n".join(lines) + "\n")
    (folder / upstream.MANIFEST).write_text(json.dumps({"version": "v0.4.2"}))
    with serve(tmp_path / "served") as served:
        yield f"{served.url}/v0.4.2", folder

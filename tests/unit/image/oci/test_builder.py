"""The process that builds: it starts under the manager's unit, and ends with an answer."""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.contract.images import ImageManifest
from nqrust.image.oci import __main__ as builder


def test_it_answers_where_priorities_cannot_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system call filter of the manager's unit refuses nice(2)."""

    def refuse(step: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    kept: list[int] = []
    monkeypatch.setattr(builder, "OOM_SCORE", str(tmp_path / "score"))
    monkeypatch.setattr(os, "nice", refuse)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limit: kept.append(kind))
    order: dict[str, Any] = {name: f"{tmp_path}/{name}" for name in builder.Order.model_fields}
    blob = {"file": "x", "size": 1, "sha256": "0" * 64}
    order |= {
        "base_manifest": ImageManifest.model_validate(
            {"name": "tiny", "rootfs": blob, "kernel": blob, "created_at": "2026-01-01T00:00:00Z"}
        ).model_dump(mode="json")
    }
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(order).encode())))
    builder.main()
    assert (tmp_path / "score").read_text() == "1000", "no VM ends for its memory"
    (told,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert told["code"] == "NQR-IMG-007" and set(kept) == {resource.RLIMIT_CORE, resource.RLIMIT_AS, resource.RLIMIT_FSIZE}

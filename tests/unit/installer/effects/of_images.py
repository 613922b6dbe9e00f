"""Proofs for the options of `nqr image import`, whose build is replaced."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.installer.effects.a_bench import Bench

from nqrust.cli import image_import
from nqrust.image.cloud import fetching, importing

NAMED = ("web", "debian:13")


def _imported(it: Bench, *words: str) -> dict[str, Any]:
    """Return what the build got, where the disk image comes from, and the manager that was told."""
    got: dict[str, Any] = {}

    class Client:
        def __init__(self, url: str | None) -> None:
            got["manager"] = url

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def send(self, call: Any) -> None:
            assert call.path == "/v1/images/scan"

    def build(host: Any, **arguments: Any) -> Any:
        got.update(arguments)
        blob = type("Blob", (), {"size": 1})
        manifest = type("Manifest", (), {"rootfs": blob})
        return importing.Imported(manifest, "", False, arguments["guest_agent"] is not None)  # type: ignore[arg-type]

    it.patch.setattr(image_import, "manager", Client)
    it.patch.setattr(importing, "build", build)
    it.patch.setattr(fetching, "from_url", lambda host, url, digest, tell: got.update(url=url, digest=digest))
    assert it.nqr("image", "import", *words) == 0, it.err
    return got


def import_name(it: Bench) -> None:
    assert [_imported(it, name, "debian:13")["target_dir"] for name in ("a", "b")] == ["/srv/images/a", "/srv/images/b"]


def import_source(it: Bench) -> None:
    assert _imported(it, "web", "debian:12")["description"] != _imported(it, *NAMED)["description"]


def import_format(it: Bench) -> None:
    assert [_imported(it, *NAMED, *more)["format"] for more in ((), ("--format", "raw"))] == [None, "raw"]


def import_checksum(it: Bench) -> None:
    found = _imported(it, "web", "http://a.example/d.qcow2", "--checksum", "a" * 64)
    assert (found["url"], found["digest"]) == ("http://a.example/d.qcow2", "a" * 64)


def import_agent(it: Bench) -> None:
    assert [bool(_imported(it, *NAMED, *more)["guest_agent"]) for more in ((), ("--no-agent",))] == [True, False]


def import_catalogue(it: Bench) -> None:
    entry = {"name": "debian:13", "description": "Our own", "url": "http://a.example/d", "checksums": "http://a.example/s"}
    own = it.logs.parent / "own.json"
    own.write_text(json.dumps({"images": [entry]}))
    assert _imported(it, *NAMED, "--catalogue", str(own))["description"] == "Our own"


def import_manager(it: Bench) -> None:
    assert [_imported(it, *NAMED, *more)["manager"] for more in ((), ("--manager", "http://m:1"))] == [None, "http://m:1"]

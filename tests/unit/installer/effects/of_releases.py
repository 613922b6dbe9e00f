"""Effects of the options of `nqr release` and `nqr dev`."""

from __future__ import annotations

from typing import Any

from tests.unit.installer.effects.a_bench import Bench

from nqrust.installer.operations import reloading
from nqrust.installer.release.source_tree import build as source_tree


def _released(it: Bench, *words: str) -> dict[str, Any]:
    """What the build of a release is asked for."""
    made: list[dict[str, Any]] = []

    def build(host: object, **given: Any) -> str:
        made.append(given)
        return "1.0.0"

    it.patch.setattr(source_tree, "build", build)
    assert it.nqr("release", "build", "--source", "/src/tree", "--to", "/srv/out", *words) == 0, it.err
    return made[0]


def release_folders(it: Bench) -> None:
    assert (_released(it)["tree"], _released(it)["to"]) == ("/src/tree", "/srv/out")


def reloaded_tree(it: Bench) -> None:
    asked: list[str] = []
    done = reloading.Reloaded(("host/port.py",), (), ("nqrust-ui",))
    it.patch.setattr(reloading, "reload", lambda source, tell: asked.append(source) or done)
    assert (it.nqr("dev", "reload"), it.nqr("dev", "reload", "--source", "/src/own")) == (0, 0), it.err
    assert asked == ["", "/src/own"] and "nqrust-ui runs on." in it.out


def release_ui(it: Bench) -> None:
    assert _released(it, "--no-ui") != _released(it)


def release_scratch(it: Bench) -> None:
    assert _released(it, "--scratch", "/mnt/big")["scratch"].startswith("/mnt/big/")

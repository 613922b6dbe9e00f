"""An image that umoci(1) built, with layers as its own program writes them, becomes one that VMs boot from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.container_images import BUSYBOX
from tests.live.container_registry import Registry
from tests.live.manager.test_pulling import listed, pulled


def umoci(place: Path, *words: str) -> None:
    done = subprocess.run(["umoci", *words], cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def built(place: Path) -> str:
    """Build an image of two layers in the layout `place`/L: the second one removes a file and links another. Return its digest."""
    root = place / "B/rootfs"
    umoci(place, "init", "--layout", "L")
    umoci(place, "new", "--image", "L:web")
    umoci(place, "unpack", "--image", "L:web", "B")
    for name in ("bin", "srv", "etc"):
        (root / name).mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    (root / "bin/httpd").symlink_to("busybox")
    for name in ("index.html", "old"):
        (root / "srv" / name).write_text(f"{name}\n")
    os.chown(root / "srv/index.html", 101, 102)
    (root / "srv/index.html").chmod(0o640)
    umoci(place, "repack", "--image", "L:web", "B")
    settings = {"cmd": ("httpd", "-f"), "env": ("PATH=/bin",), "exposedports": ("80/tcp",), "user": ("101:102",)}
    umoci(place, "config", "--image", "L:web", *[f"--config.{key}={one}" for key, given in settings.items() for one in given])
    shutil.rmtree(place / "B")
    umoci(place, "unpack", "--image", "L:web", "B")
    (root / "srv/old").unlink()
    os.link(root / "srv/index.html", root / "srv/same.html")
    umoci(place, "repack", "--image", "L:web", "B")
    (manifest,) = json.loads((place / "L/index.json").read_text())["manifests"]
    return str(manifest["digest"])


@pytest.mark.skipif(shutil.which("umoci") is None or os.geteuid() != 0, reason="umoci is not installed, or this is not root")
async def test_an_image_of_umoci_is_pulled(pulling: Any, registry: Registry, tmp_path: Path) -> None:
    digest = built(tmp_path)
    image = await pulled(pulling, registry.push_layout(tmp_path / "L", "web", "umoci/web:1"))
    assert (image.state, image.error, image.digest) == ("ready", "", digest)
    process = image.manifest.process
    assert (process.command, process.env, process.user, process.ports) == (["httpd", "-f"], ["PATH=/bin"], "101:102", ["80/tcp"])
    found = listed(image, "/srv", pulling.core.settings.image_root)
    assert found.count("100640 (1)    101    102") == 2 and "same.html" in found and "old" not in found
    assert "120777" in listed(image, "/bin", pulling.core.settings.image_root)

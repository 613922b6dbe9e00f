"""A real registry (Debian's docker-registry) on loopback, with or without a password."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.container_images import BUSYBOX, Image

NEEDS = ("docker-registry", "skopeo", "mke2fs", "debugfs")
USER, PASSWORD = "puller", "s3cret of the registry"


def require() -> None:
    lacking = [program for program in NEEDS if shutil.which(program) is None]
    lacking += [BUSYBOX] if not os.path.exists(BUSYBOX) else []
    if lacking:
        pytest.skip(f"{', '.join(lacking)} not installed")


class Registry:
    """`address`: 127.0.0.1 with its port."""

    def __init__(self, place: Path, *, private: bool = False) -> None:
        self.place, self.private = place, private
        place.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(place / "data")}},
            "http": {"addr": self.address},
        }
        if private:
            salted = f"$2y$05${'abcdefghijklmnopqrstuu'}"
            hashed = subprocess.run(
                ["perl", "-e", "print crypt($ARGV[0], $ARGV[1])", PASSWORD, salted], capture_output=True, text=True
            )
            (place / "htpasswd").write_text(f"{USER}:{hashed.stdout}\n")
            config["auth"] = {"htpasswd": {"realm": "nqr", "path": str(place / "htpasswd")}}
        (place / "config.yml").write_text(json.dumps(config))
        with open(place / "log", "wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(place / "config.yml")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        for _ in range(100):
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{self.address}/v2/", timeout=2)
                return
            except urllib.error.HTTPError:
                return  # it asks for the password
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.place / "log").read_text())

    def push(self, image: Image, name: str) -> tuple[str, str]:
        """Push an image as NAME:TAG. Return its reference and the digest of its manifest."""
        layout = self.place / "pushed"
        digest = image.write(layout)
        return self.push_layout(layout, "image", name), digest

    def push_layout(self, layout: Path, tag: str, name: str) -> str:
        """Push the image `tag` of an OCI layout as NAME:TAG. Return its reference."""
        reference = f"{self.address}/{name}"
        words = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false"]
        if self.private:
            words += [f"--dest-creds={USER}:{PASSWORD}"]
        done = subprocess.run(
            [*words, f"oci:{layout}:{tag}", f"docker://{reference}"], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        return reference

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)

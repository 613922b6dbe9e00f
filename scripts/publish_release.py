#!/usr/bin/env python3
"""Puts a built release in nqr's own form into a new folder that a web server can serve, or a release page can hold.

    .venv/bin/python scripts/publish_release.py DIR NEW_FOLDER

DIR: a folder with release.json and its artifacts, such as /var/cache/nqrust-microvm/releases/VERSION after an install from
this tree. The files lie side by side, and checksums.txt has the head of a signed list. Sign that file then
(docs/reference/releases.md); the private key never comes near this script.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

from nqrust.contract.names import PRODUCT
from nqrust.installer.release.bundled import DESCRIPTOR
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.published import name_in_list
from nqrust.installer.release.signed_list import ARCHITECTURE
from nqrust.installer.release.upstream import CHECKSUMS


def publish(source: Path, target: Path) -> Release:
    """Copy the artifacts of the release in `source`, each checked, to the new folder `target`, with descriptor and list."""
    release = Release.model_validate(json.loads((source / DESCRIPTOR).read_bytes()))
    target.mkdir(parents=True)
    digests = {}
    for artifact in release.artifacts:
        name = name_in_list(artifact)
        if name in digests:
            raise SystemExit(f"Two artifacts have the name {name}.")
        digests[name] = _digest(source / artifact.name)
        if digests[name] != artifact.sha256:
            raise SystemExit(f"{source / artifact.name} is not the file that {DESCRIPTOR} lists.")
        shutil.copyfile(source / artifact.name, target / name)
    shutil.copyfile(source / DESCRIPTOR, target / DESCRIPTOR)
    digests[DESCRIPTOR] = _digest(target / DESCRIPTOR)
    head = f"# product: {PRODUCT}\n# version: {release.version}\n# architecture: {ARCHITECTURE}\n"
    (target / CHECKSUMS).write_text(head + "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())))
    return release


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Put a built release into a folder to publish.")
    parser.add_argument("source", type=Path, metavar="DIR")
    parser.add_argument("target", type=Path, metavar="NEW_FOLDER")
    arguments = parser.parse_args()
    made = publish(arguments.source, arguments.target)
    sys.stdout.write(f"{arguments.target} holds release {made.version}. Sign {arguments.target / CHECKSUMS} next.\n")

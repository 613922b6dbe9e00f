"""A source tree in upstream's form: a Cargo workspace with a real crate, a lock of pnpm and a page of Next.js. Its programs are those
of the stand-in release."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.places import ROOT

VERSION = "0.9.1"
_HERE = Path(__file__).parent
_SCRIPT = 'fn main() {{\n    println!("cargo:rustc-env=ROLE={role}");\n    println!("cargo:rustc-env=RELEASE={version}");\n}}\n'
_USES = "\n#[allow(dead_code)]\nfn number(value: u32) -> String {\n    itoa::Buffer::new().format(value).to_string()\n}\n"


def write(folder: Path) -> None:
    """Write the tree into the new folder."""
    shutil.copytree(ROOT / "tests/fakes/source_tree", folder)
    for role in ("manager", "agent", "guest-agent"):
        (folder / role / "build.rs").write_text(_SCRIPT.format(role=role, version=VERSION))
        (folder / role / "src/main.rs").write_text((_HERE / "program.rs").read_text() + _USES)

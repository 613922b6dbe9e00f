"""The Rust that a source tree asks for: `rust-version` in its manifests, rust-toolchain.toml, and the target in .cargo/config.toml.

See "The toolchain file" in the rustup book, and "The rust-version field" and "build.target" in the Cargo Book. Reads only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nqrust.host.port import Host
from nqrust.image.guest_agent import MUSL_TARGET
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.source_tree.manifests import string, strings, table

OLDEST = (1, 70)
_CHANNEL = re.compile(r"(stable|beta|nightly|\d+\.\d+(?:\.\d+)?)(-\d{4}-\d{2}-\d{2})?")
_FILES = ("rust-toolchain", "rust-toolchain.toml")  # the first wins, as in rustup


@dataclass(frozen=True)
class WantedRust:
    """`oldest`: the oldest version that serves. A version that rust-toolchain.toml names counts as the oldest. `channel`: what that
    file names, or "". `musl`: whether it names the musl target. `musl_programs`: whether manager and agent are built for it."""

    oldest: tuple[int, ...] = OLDEST
    channel: str = ""
    musl: bool = False
    musl_programs: bool = False

    @property
    def released(self) -> bool:
        """Whether each release from `oldest` on serves."""
        return re.match(r"beta|nightly|stable-", self.channel) is None

    @property
    def label(self) -> str:
        name = f"Rust {'.'.join(map(str, self.oldest))} or later" if self.released else f"Rust {self.channel}"
        return f"{name} with the target {MUSL_TARGET}" if self.musl else name

    def met_by(self, said: str) -> bool:
        """Return whether a compiler serves whose `--version` says this. Its targets are another question."""
        found = re.match(r"rustc (\d+)\.(\d+)\.(\d+)(-(?:beta|nightly))?", said)
        if found is None or tuple(int(part) for part in found.groups()[:3]) < self.oldest:
            return False
        return self.released or f"-{self.channel}" == found[4]


def wanted_rust(host: Host, tree: str, packages: Iterable[str]) -> WantedRust:
    """Return what a tree asks for. `packages`: the text of its manifests. Raises ReleaseError NQR-REL-090, HostError."""
    lines = [table(text, name) or "" for text in packages for name in ("workspace.package", "package")]
    oldest = [_numbers(version) for one in lines if re.match(r"\d+\.\d+", version := string(one, "rust-version"))]
    channel, targets = _toolchain_file(host, tree)
    if channel[:1].isdigit():
        oldest.append(_numbers(channel))
    configured = next((f"{tree}/.cargo/{name}" for name in ("config.toml", "config") if host.exists(f"{tree}/.cargo/{name}")), "")
    build = (table(host.read_text(configured), "build") or "") if configured else ""
    programs = MUSL_TARGET in (string(build, "target"), *strings(build, "target"))
    return WantedRust(max((OLDEST, *oldest)), channel, programs or MUSL_TARGET in targets, programs)


def _toolchain_file(host: Host, tree: str) -> tuple[str, tuple[str, ...]]:
    """Return channel and targets of the file. Its first form was the channel alone."""
    path = next((f"{tree}/{name}" for name in _FILES if host.exists(f"{tree}/{name}")), None)
    if path is None:
        return "", ()
    text = host.read_text(path)
    lines = table(text, "toolchain")
    channel = text.strip() if lines is None else string(lines, "channel")
    if channel and _CHANNEL.fullmatch(channel):
        return channel, strings(lines or "", "targets")
    if lines is not None and not channel and not string(lines, "path"):
        return "", strings(lines, "targets")
    raise ReleaseError(
        "NQR-REL-090",
        f"{path} names a Rust toolchain that only the tree's own machine has.",
        "Name a version or a channel there, such as stable.",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0])[:3])

"""Errors in building an image or the guest agent. Failures of the machine itself stay `HostError`s."""

from __future__ import annotations


class ImageError(Exception):
    """`code` like NQR-IMG-001, `what` one sentence, `cure` one sentence."""

    def __init__(self, code: str, what: str, cure: str) -> None:
        self.code, self.what, self.cure = code, what, cure
        super().__init__(f"{code}: {what}")

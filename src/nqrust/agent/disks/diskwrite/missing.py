"""The error for a host without the means to write into a disk of this type."""

from __future__ import annotations

from nqrust.agent.errors import Failed


def cannot(why: str, cure: str) -> Failed:
    return Failed("NQR-IMG-107", f"This host cannot write to the VM's disk: {why}.", cure, status=503)

"""The phases of an install."""

from __future__ import annotations

PHASES = ("preflight", "deps", "kvm", "network", "database", "build", "config", "sudo", "services", "verify")
"""The ten phases of upstream, in its order. preflight and verify have no steps: they run before and after the plan."""

ROTATED = ("database", "tokens", "authority", "certificates")
"""The secrets that `nqr rotate` replaces, in this order."""

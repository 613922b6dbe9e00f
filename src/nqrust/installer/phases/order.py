"""The phases of an install."""

from __future__ import annotations

PHASES = ("preflight", "deps", "kvm", "network", "database", "build", "config", "sudo", "services", "verify")
"""Upstream's ten, in their order. preflight and verify have no steps: they run before and after the plan."""

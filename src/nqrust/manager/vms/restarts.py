"""Decides whether an ended VM restarts. Pure."""

from __future__ import annotations

from nqrust.contract.vms import RestartPolicy


def comes_back(policy: RestartPolicy, clean: bool) -> bool:
    """Return whether it restarts. `clean`: its guest powered off."""
    return policy is RestartPolicy.always or (policy is RestartPolicy.on_failure and not clean)

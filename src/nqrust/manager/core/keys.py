"""SSH keys in requests: refused early if a guest could not use them."""

from __future__ import annotations

from collections.abc import Iterable

from nqrust.contract import ssh_keys
from nqrust.contract.vms import GuestAccount
from nqrust.manager.errors import Invalid


def check(keys: Iterable[str], users: Iterable[GuestAccount]) -> None:
    """Raise Invalid for the first bad key."""
    for whose, one in [("", keys), *((f" of user {user.name}", user.ssh_keys) for user in users)]:
        for key in one:
            reason = ssh_keys.wrong(key)
            if reason:
                what = f"SSH key \u201c{ssh_keys.shortened(key)}\u201d{whose} {reason}."
                raise Invalid(what, cure=ssh_keys.CURE, code="NQR-API-140")

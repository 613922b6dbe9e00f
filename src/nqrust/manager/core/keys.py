"""SSH keys in requests: refused early if a guest could not use them."""

from __future__ import annotations

from collections.abc import Iterable

from nqrust.contract import ssh_keys
from nqrust.contract.vms import GuestAccount
from nqrust.manager.errors import Invalid

LARGEST = 65_536
"""Characters of all SSH keys of a VM or template. Lists of templates have them."""


def check(keys: Iterable[str], users: Iterable[GuestAccount]) -> None:
    """Raise Invalid for the first bad key, or if they are too long together."""
    left = LARGEST
    for whose, one in [("", keys), *((f" of user {user.name}", user.ssh_keys) for user in users)]:
        for key in one:
            reason = ssh_keys.wrong(key)
            if reason:
                what = f"SSH key \u201c{ssh_keys.shortened(key)}\u201d{whose} {reason}."
                raise Invalid(what, cure=ssh_keys.CURE, code="NQR-API-140")
            left -= len(key)
    if left < 0:
        raise Invalid(
            f"The SSH keys have more than {LARGEST} characters together.",
            cure="Give fewer of them, or use keys of type ssh-ed25519, which are short.",
            code="NQR-API-140",
        )

"""Checks of a VM's name before the call to the manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nqrust.contract.text import fault, plain
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.contract.vms import VmCreate

_FLAGS = {"memory_mib": "memory", "disk_mib": "disk", "ssh_keys": "ssh-key", "tags": "tag", "volumes": "volume", "users": "user",
          "net_rx_kbit": "net-rx", "net_tx_kbit": "net-tx", "disk_kib": "disk-rate", "rate_limits": "net-rx"}  # fmt: skip
"""Fields of a VM whose options have other names."""


def checked_name(name: str) -> None:
    """Raise UsageError NQR-USE-003 for an invalid name."""
    checked(name=name, image="any")


def checked(**fields: Any) -> VmCreate:
    from pydantic import ValidationError

    from nqrust.contract.vms import VmCreate

    try:
        return VmCreate(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        if field == "name":
            raise not_a_name("VM", fields[field]) from error
        shown = "so" if field == "user_data" else f"“{fields.get(field)}”"  # it may contain passwords
        said = fault(first["msg"])
        what = f"{flag_of(field)} cannot be {shown}: {said[:1].lower()}{said[1:]}."
        raise UsageError("NQR-USE-003", what, "See: nqr vm create --help") from error


def not_a_name(kind: str, name: str) -> UsageError:
    """Return the error of a name that no `kind` can have."""
    return UsageError(
        "NQR-USE-003",
        f"A {kind} cannot be named “{' '.join(plain(name).splitlines())}”.",
        "Use at most 63 lower-case letters, digits and dashes. Begin with a letter, and end with a letter or a digit.",
    )


def flag_of(field: str) -> str:
    """Return the option that sets a field of a VM, as people type it."""
    return "--" + _FLAGS.get(field, field.replace("_", "-"))

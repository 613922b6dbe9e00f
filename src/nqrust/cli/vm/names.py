"""Checks of a VM's name before the call to the manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nqrust.contract.text import fault
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.contract.vms import VmCreate


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
        flag = "--" + {
            "memory_mib": "memory",
            "disk_mib": "disk",
            "ssh_keys": "ssh-key",
            "tags": "tag",
            "user_data": "user-data",
        }.get(field, field)
        shown = "so" if field == "user_data" else f"“{fields.get(field)}”"  # it may contain passwords
        said = fault(first["msg"])
        what = f"{flag} cannot be {shown}: {said[:1].lower()}{said[1:]}."
        cure = "Use at most 63 lower-case letters, digits and dashes. Begin with a letter."
        raise UsageError("NQR-USE-003", what, cure if field == "name" else "See: nqr vm create --help") from error

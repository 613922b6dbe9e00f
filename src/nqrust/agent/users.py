"""The user of a VM's processes: a number of its own, without a name, without privileges and without a way to get any.

setpriv(1), unshare(1), capabilities(7). The numbers are from a range that no distribution gives to people, services, or
containers (systemd, "Users, Groups, UIDs and GIDs on systemd Systems").
"""

from __future__ import annotations

from collections.abc import Collection

from nqrust.contract.names import VM_USERS

Mount = tuple[str, ...]
"""Arguments of mount(8)."""

VIEW = ("unshare", "--mount", "--propagation", "slave")
"""A mount namespace that sees what the host mounts and unmounts, and whose own mounts the host does not see."""


def become(user: int) -> tuple[str, ...]:
    """The command, without the program, that gives up root for good."""
    return (
        "setpriv",
        f"--reuid={user}",
        f"--regid={user}",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
        "--",
    )


def free(taken: Collection[int]) -> int:
    """The lowest number that is not in `taken`. A host has room for far fewer VMs than there are numbers."""
    return next(number for number in VM_USERS if number not in taken)


def is_vm_user(number: int) -> bool:
    return number in VM_USERS


def passwd(directory: str) -> str:
    """The passwd(5) of the VM whose folder is `directory`."""
    return f"{directory}/passwd"


def passwd_text(user: int) -> str:
    return f"root:x:0:0:root:/:/usr/sbin/nologin\nvm:x:{user}:{user}:VM:/:/usr/sbin/nologin\n"


def own_view(directory: str) -> tuple[Mount, ...]:
    """Mounts that only the VM's processes see."""
    return (("--bind", passwd(directory), "/etc/passwd"),)

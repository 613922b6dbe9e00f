"""Accounts in a mounted tree. The image's files are not trusted, and are read up to a limit."""

from __future__ import annotations

from collections.abc import Sequence

from nqrust.agent.disks.accounts import Account, with_user
from nqrust.agent.disks.diskwrite.confined import Tree
from nqrust.agent.disks.diskwrite.files import owned_folder, writing
from nqrust.agent.errors import Failed, Refused
from nqrust.contract.vms import GuestUser

_LARGEST = 1 << 20  # bytes read of a passwd file
_MODES = {"passwd": 0o644, "group": 0o644, "shadow": 0o640}
_LAST_ID = (1 << 32) - 2


def write(tree: Tree, users: Sequence[GuestUser]) -> None:
    """Add every account of `users` to the tree. Raises Refused (NQR-IMG-105: no accounts there), Failed (NQR-IMG-103)."""
    texts = {name: _text(tree, f"/etc/{name}") for name in _MODES}
    passwd, group, shadow = texts["passwd"], texts["group"] or "", texts["shadow"]
    if not passwd:
        raise Refused(
            "NQR-IMG-105",
            "The image has no /etc/passwd, so nqr cannot add users.",
            "Use another image, or create the VM without --user.",
        )
    with writing("/bin"):
        shell = "/bin/bash" if tree.status("/bin/bash") is not None else "/bin/sh"
    for user in users:
        passwd, group, shadow, account = with_user(passwd, group, shadow, user, shell)
        if account.uid > _LAST_ID or account.gid > _LAST_ID:
            raise Failed("NQR-IMG-103", f"The number of the account {user.name} in the image is too large.", "Correct the image.")
        _home(tree, user, account)
    for name, text in (("passwd", passwd), ("group", group), ("shadow", shadow)):
        if text is None:
            continue
        path = f"/etc/{name}"
        with writing(path):
            found = tree.status(path)
            mode, gid = (found.st_mode & 0o777, found.st_gid) if found else (_MODES[name], 0)
            tree.write(path, text.encode(errors="surrogateescape"), mode=mode, uid=0, gid=gid)


def _text(tree: Tree, path: str) -> str | None:
    with writing(path):
        content = tree.read(path, _LARGEST)
    return None if content is None else content.decode(errors="surrogateescape")


def _home(tree: Tree, user: GuestUser, account: Account) -> None:
    """Give the home, and .ssh with its keys, to the user. Root owns the missing folders above."""
    parts = account.home.split("/")[1:]
    for count in range(1, len(parts)):
        owned_folder(tree, "/" + "/".join(parts[:count]), mode=0o755)
    owned_folder(tree, account.home, mode=0o755, uid=account.uid, gid=account.gid)
    ssh = f"{account.home}/.ssh"
    owned_folder(tree, ssh, mode=0o700, uid=account.uid, gid=account.gid, always=True)
    if user.ssh_keys:
        path = f"{ssh}/authorized_keys"
        with writing(path):
            keys = "".join(f"{key}\n" for key in user.ssh_keys)
            tree.write(path, keys.encode(), mode=0o600, uid=account.uid, gid=account.gid)

"""Accounts in a VM's disk: passwd(5), group(5), shadow(5) and a home with keys, written with debugfs(8), no mount.

The image's files are not trusted. They are read up to a limit, and only names and paths of plain characters reach
debugfs's script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nqrust.agent.disks import tools
from nqrust.agent.disks.netconf import ext4
from nqrust.agent.errors import Failed, Refused
from nqrust.contract.vms import GuestUser
from nqrust.host.port import Completed, Host
from nqrust.host.secret import Secret

KEY = re.compile(r"[\x20-\x7e]{16,16384}")
"""A line of authorized_keys."""
_LARGEST = 1 << 20  # bytes of a passwd file that is read
_HOME = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]{0,63}){1,8}")
_ID = re.compile(r"[0-9]{1,10}")
_FILES = {name: f"/etc/{name}" for name in ("passwd", "group", "shadow")}


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int
    home: str


def inject(host: Host, disk: str, users: Sequence[GuestUser]) -> None:
    """Add every account of `users` to the file system in `disk`, which no VM uses.

    Raises Refused (NQR-IMG-105: the image has no accounts), Failed (NQR-IMG-103).
    """
    folder = f"{disk}.accounts"
    host.remove_tree(folder)
    tools.scratch(host, disk, folder)
    try:
        _inject(host, disk, users, folder)
    finally:
        host.remove_tree(folder)


def _inject(host: Host, disk: str, users: Sequence[GuestUser], folder: str) -> None:
    for user in users:
        if not all(KEY.fullmatch(key) for key in user.ssh_keys):
            raise Refused("NQR-API-703", f"An SSH key of {user.name} has invalid characters.", "Give one key per line.")
    told = _stat(host, disk, folder, (*_FILES.values(), "/bin/bash"))
    texts = _texts(host, disk, folder, ext4.parse(told, (*_FILES.values(), "/bin/bash")))
    if not texts["passwd"]:
        raise Refused(
            "NQR-IMG-105",
            "The image has no /etc/passwd, so nqr cannot add users.",
            "Use another image, or create the VM without --user.",
        )
    access = {name: _access(told, path) for name, path in _FILES.items()}
    shell = "/bin/bash" if _access(told, "/bin/bash") else "/bin/sh"
    passwd, group, shadow = texts["passwd"], texts["group"] or "", texts["shadow"]
    found: list[tuple[GuestUser, Account]] = []
    for user in users:
        passwd, group, shadow, account = with_user(passwd, group, shadow, user, shell)
        found.append((user, account))
    lines = _folders(host, disk, folder, [account for _, account in found])
    expected = dict[str, tuple[str, bytes]]()
    for number, (user, account) in enumerate(found):
        if user.ssh_keys:
            keys = f"{folder}/keys{number}"
            content = "".join(f"{key}\n" for key in user.ssh_keys)
            host.write_file(keys, Secret(content), mode=0o600, owner=tools.owner_of(host, disk))
            path = f"{account.home}/.ssh/authorized_keys"
            lines += [f"cd {account.home}/.ssh", "rm authorized_keys", f"write {keys} authorized_keys"]
            lines += [*_owned(path, 0o100600, account), f"dump {path} {keys}.back"]
            expected[path] = f"{keys}.back", content.encode()
    for name, text in (("passwd", passwd), ("group", group), ("shadow", shadow)):
        if text is None:
            continue
        new = f"{folder}/{name}.new"
        data = text.encode(errors="surrogateescape")
        host.write_file(new, data, mode=0o600, owner=tools.owner_of(host, disk))
        mode, gid = access[name] or (0o644, 0)
        lines += [
            "cd /etc",
            f"rm {name}",
            f"write {new} {name}",
            *_owned(f"/etc/{name}", 0o100000 | mode, Account("", 0, gid, "")),
        ]
        lines.append(f"dump /etc/{name} {new}.back")
        expected[f"/etc/{name}"] = f"{new}.back", data
    done = _debugfs(host, disk, folder, "\n".join([*lines, ""]), write=True)
    for path, (back, data) in expected.items():
        if tools.written(host, disk, back, len(data)) != data:
            why = done.stderr.strip().splitlines()[-1:] or ["it could not be read back"]
            raise Failed(
                "NQR-IMG-103",
                f"{path} does not fit or cannot be written to the VM's disk ({why[0]}).",
                "Give the VM a larger disk, or correct the image.",
            )


def _texts(host: Host, disk: str, folder: str, found: Mapping[str, tuple[str, int, str]]) -> dict[str, str | None]:
    """Return the files' content, None for one that is not there. `found`: type and size of each, so that none is copied out
    that is too long. Raises Failed."""
    plain = {name: path for name, path in _FILES.items() if path in found and found[path][0] == "regular"}
    for path in plain.values():
        if found[path][1] > _LARGEST:
            raise Failed("NQR-IMG-103", f"{path} of the image is longer than 1 MiB.", "Correct the image.")
    _debugfs(host, disk, folder, "".join(f"dump {path} {folder}/{name}\n" for name, path in plain.items()), write=False)
    data = {name: tools.written(host, disk, f"{folder}/{name}", _LARGEST) for name in plain}
    return {name: None if (text := data.get(name)) is None else text.decode(errors="surrogateescape") for name in _FILES}


def _folders(host: Host, disk: str, folder: str, found: Sequence[Account]) -> list[str]:
    """Create missing homes with their .ssh. debugfs's `mkdir` of an existing folder would leave a lost inode."""
    wanted: dict[str, Account | None] = {}
    for account in found:
        parts = account.home.split("/")[1:]
        for count in range(1, len(parts)):
            wanted.setdefault("/" + "/".join(parts[:count]), None)
        wanted[account.home] = wanted[f"{account.home}/.ssh"] = account
    told = _stat(host, disk, folder, tuple(wanted))
    lines = []
    for path, owner in wanted.items():
        missing = _access(told, path) is None
        if missing:
            lines.append(f"mkdir {path}")
        if owner is not None and (missing or path.endswith("/.ssh")):
            lines += _owned(path, 0o040700 if path.endswith("/.ssh") else 0o040755, owner)
    return lines


def with_user(passwd: str, group: str, shadow: str | None, user: GuestUser, shell: str) -> tuple[str, str, str | None, Account]:
    """Return the three files with `user` added, and the account. Pure. An existing account keeps its number, home and shell."""
    rows = [line.split(":") for line in passwd.splitlines()]
    row = next((row for row in rows if row[0] == user.name and len(row) >= 7 and all(map(_ID.fullmatch, row[2:4]))), None)
    secret = user.password_hash or "*"
    if row is None:
        taken = {int(row[2]) for row in rows if len(row) > 2 and _ID.fullmatch(row[2])}
        taken |= {int(f[2]) for line in group.splitlines() if len(f := line.split(":")) > 2 and _ID.fullmatch(f[2])}
        uid = next((number for number in range(1000, 60_000) if number not in taken), None)
        if uid is None:
            raise Failed("NQR-IMG-103", "The image has no free number for a new account.", "Correct the image.")
        row = [user.name, "x" if shadow is not None else secret, str(uid), str(uid), "", f"/home/{user.name}", shell]
        passwd = _ended(passwd) + ":".join(row) + "\n"
        group = _ended(group) + f"{user.name}:x:{uid}:\n"
    elif shadow is None and user.password_hash:
        passwd = "".join(
            f"{':'.join([user.name, secret, *line.split(':')[2:]])}\n" if line.split(":")[0] == user.name else f"{line}\n"
            for line in passwd.splitlines()
        )
    if shadow is not None:
        shadow = _with_password(shadow, user.name, user.password_hash)
    home = row[5] if _HOME.fullmatch(row[5]) else f"/home/{user.name}"
    return passwd, group, shadow, Account(user.name, int(row[2]), int(row[3]), home)


def _with_password(shadow: str, name: str, password_hash: str | None) -> str:
    lines = shadow.splitlines()
    for number, line in enumerate(lines):
        fields = line.split(":")
        if fields[0] == name:
            if password_hash:
                lines[number] = ":".join([name, password_hash, *fields[2:]])
            return "\n".join([*lines, ""])
    # The day of the last change stays empty: an age could make the password expire at once or never under the image's policy.
    return _ended(shadow) + f"{name}:{password_hash or '*'}:::::::\n"


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _owned(path: str, mode: int, account: Account) -> list[str]:
    return [
        f"set_inode_field {path} mode 0{mode:o}",
        f"set_inode_field {path} uid {account.uid}",
        f"set_inode_field {path} gid {account.gid}",
    ]


def _access(told: str, path: str) -> tuple[int, int] | None:
    """Return mode and group from debugfs's `stat PATH`, or None if the path does not exist. Pure."""
    piece = told.partition(f"debugfs: stat {path}\n")[2].partition("debugfs: ")[0]
    mode = re.search(r"Mode:\s+0?([0-7]{3,4})\b", piece)
    gid = re.search(r"Group:\s+(\d+)", piece)
    return (int(mode[1], 8), int(gid[1])) if mode and gid else None


def _stat(host: Host, disk: str, folder: str, paths: Sequence[str]) -> str:
    """Return what debugfs tells of these paths. Raises Failed for an image that talks like debugfs."""
    asked = [f"stat {path}" for path in paths]
    told = _debugfs(host, disk, folder, "".join(f"{line}\n" for line in asked), write=False).stdout
    if not ext4.answers(told, asked):
        raise Failed("NQR-IMG-103", "A link of the image contains lines like those of debugfs.", "Correct the image.")
    return told


def _debugfs(host: Host, disk: str, folder: str, script: str, *, write: bool) -> Completed:
    host.write_file(f"{folder}/script", script.encode(), mode=0o600, owner=tools.owner_of(host, disk))
    return tools.run(host, disk, "debugfs", *(["-w"] if write else []), "-f", f"{folder}/script", disk, grows=write)

"""A VM's disk: a copy of the image's root file system, grown, with the VM's own files written before it boots.

This module handles ext4, without mounts or loop devices: e2fsck(8), resize2fs(8) and debugfs(8) work on the file. debugfs
resolves links inside the image's own file system, so a hostile image cannot reach the host. Other types: disk_writers.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from nqrust.agent import untrusted
from nqrust.agent.disks import accounts, guest_paths, tools
from nqrust.agent.disks.netconf import choose, ext4
from nqrust.agent.disks.netconf.configurator import Nic
from nqrust.agent.errors import AgentError, Failed, Refused
from nqrust.contract.images import GuestProcess
from nqrust.contract.paths import GUEST_AGENT_CONF, GUEST_FOLDER
from nqrust.contract.vms import NAME_PATTERN, GuestUser
from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError, OutputTooLong
from nqrust.host.port import Completed, Host, Stat
from nqrust.host.secret import Secret

MIB = 1 << 20
UNUSABLE = "NQR-IMG-102"
_UNUSABLE, _NO_FOLDER = 101, 103  # exit statuses of the scripts
_CHECK = 'e2fsck -f -y "$0" || [ "$?" = 1 ]'
"""e2fsck(8) exits with 1 when it corrected something."""
_REPLAY = 'e2fsck -p "$0" || [ "$?" = 1 ]'
"""Replays the journal, then repairs what a boot of the guest would: nothing is lost by it. A clean disk takes milliseconds."""
_GROW = f'{{ truncate -s "$1" "$0" && {{ {_CHECK}; }} && resize2fs "$0"; }} || exit {_UNUSABLE}\n'
_WRITE = f"""\
made() {{ [ -z "$missing" ] || echo "mkdir $missing"; }}
debugfs -f "$2/look" "$0" >"$2/told"
missing=
while read -r one two three four rest; do
    case "$one $two" in
    "debugfs: stat") made; missing=$three ;;
    "Inode: "*) missing=; [ "$four" = directory ] || exit {_NO_FOLDER} ;;
    esac
done <"$2/told" >"$2/made"
made >>"$2/made"
[ ! -s "$2/made" ] || debugfs -w -f "$2/made" "$0"
exec debugfs -w -f "$2/script" "$0"
"""
"""Makes the missing folders of `look`, outermost first, and runs `script`. debugfs's `mkdir` of an existing folder would leave a
lost inode. One confinement for several programs: each costs milliseconds."""
_TOKEN = re.compile(r"[\x21-\x7e]{1,256}")
_KEYS, _PROCESS, _NETWORK, _USER = "/root/.ssh/authorized_keys", f"{GUEST_FOLDER}/process", "network", "user "
_ONCE = (_KEYS, _PROCESS)
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


@dataclass(frozen=True)
class Identity:
    """The VM's own values, written to /etc/hostname, /etc/guest-agent.conf and root's authorized_keys.

    `mac`: the NIC on which the image's network configuration is told to use DHCP. Empty: the image is not changed.
    `user_data`: for cloud-init; it needs `mac`.
    """

    vm_id: str
    hostname: str
    manager_url: str
    token: Secret
    ssh_keys: tuple[str, ...] = ()
    users: tuple[GuestUser, ...] = ()
    mac: str = ""
    user_data: Secret = Secret("")  # noqa: RUF009 - it never changes
    process: GuestProcess | None = None
    unchanged: frozenset[str] = frozenset()
    """Parts that are not written: a guest may have changed them since. See `digests`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.hostname):
            raise Refused("NQR-API-703", "The VM's name is not a hostname.", "Use a label such as web1.")
        if not _TOKEN.fullmatch(self.token.reveal()) or not all(accounts.KEY.fullmatch(key) for key in self.ssh_keys):
            raise Refused("NQR-API-703", "A token or SSH key has invalid characters.", "Give one key per line.")
        if self.mac and not _MAC.fullmatch(self.mac):
            raise Refused("NQR-API-703", "The VM's MAC address is not valid.", "Write it as 02:00:00:00:00:01.")

    def files(self) -> dict[str, tuple[int, Secret]]:
        """Path in the guest -> mode and content of what is written. Root owns all of them."""
        return {path: file for path, file in self._files().items() if path not in self.unchanged}

    def _files(self) -> dict[str, tuple[int, Secret]]:
        conf = f"VM_ID={self.vm_id}\nMANAGER_URL={self.manager_url}\nTOKEN={self.token.reveal()}\n"
        files = {"/etc/hostname": (0o644, Secret(self.hostname + "\n")), GUEST_AGENT_CONF: (0o600, Secret(conf))}
        if self.ssh_keys:
            files[_KEYS] = (0o600, Secret("".join(f"{key}\n" for key in self.ssh_keys)))
        if self.process is not None:
            files[_PROCESS] = (0o600, Secret(process_file(self.process)))
        return files

    @property
    def accounts(self) -> list[GuestUser]:
        """Those that are written."""
        return [user for user in self.users if _USER + user.name not in self.unchanged]

    @property
    def passwords(self) -> bool:
        return any(user.password_hash for user in self.users)

    @property
    def nic(self) -> Nic | None:
        """The NIC whose configuration is written."""
        if not self.mac or _NETWORK in self.unchanged:
            return None
        return Nic(self.mac, self.vm_id, self.hostname, self.passwords, self.user_data.reveal())

    @property
    def digests(self) -> dict[str, str]:
        """Return a digest of each part: a file by its path, the network's configuration, and each account."""
        parts: dict[str, list[str]] = {path: [content.reveal()] for path, (_, content) in self._files().items()}
        if self.mac:
            parts[_NETWORK] = [self.mac, self.vm_id, self.hostname, str(self.passwords), self.user_data.reveal()]
        parts |= {_USER + user.name: [user.password_hash or "", *user.ssh_keys] for user in self.users}
        return {part: hashlib.sha256(json.dumps(text).encode()).hexdigest() for part, text in parts.items()}

    def beside(self, injected: str, written: Mapping[str, str]) -> Identity:
        """Return it without the parts that a disk has. `injected`, `written`: `digest` and `digests` of what the disk got."""
        digests = self.digests
        same = {part for part, digest in digests.items() if written.get(part) == digest}
        if injected and not written:  # of a version that kept one digest of all. Parts that a VM gets once do not change.
            same = {part for part in digests if injected == self.digest or part in _ONCE or part.startswith(_USER)}
        return replace(self, unchanged=frozenset(same))

    @property
    def digest(self) -> str:
        """Return a digest that changes with any part."""
        plain = [self.vm_id, self.hostname, self.manager_url, self.token.reveal(), *self.ssh_keys]
        plain += [user.model_dump_json() for user in self.users]
        plain += [f"network {self.mac}"] if self.mac else []
        plain += [f"user-data {self.user_data.reveal()}"] if self.user_data.reveal() else []
        plain += [self.process.model_dump_json()] if self.process else []
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def process_file(process: GuestProcess) -> str:
    """Return the file that the init of the guest reads, see guest-agent/src/process.rs. Pure."""
    lines = [("arg", word) for word in process.argv] + [("env", one) for one in process.env]
    lines += [("user", process.user), ("dir", process.directory), ("stop", process.stop_signal)]
    escaped = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})
    return "".join(f"{key}={value.translate(escaped)}\n" for key, value in lines)


class Writer(Protocol):
    """Writes identities into file systems of one type.

    `first` and `again` return a description of the written network configuration. All raise AgentError (NQR-IMG-102 to -109,
    NQR-VMM-141) and HostError.
    """

    def first(self, host: Host, disk: str, size: int, wanted: int, identity: Identity) -> str:
        """Write into a fresh copy of an image, checked and grown from `size` to `wanted` bytes."""
        ...

    def ready(self, host: Host, disk: str, *, cut_off: bool) -> None:
        """Make a VM's disk ready for `again`: its VM may have been killed. `cut_off`: the last `again` may have been, too."""
        ...

    def again(self, host: Host, disk: str, identity: Identity) -> str:
        """Write into a VM's disk, which no VM may be using."""
        ...


class Ext4:
    def first(self, host: Host, disk: str, size: int, wanted: int, identity: Identity) -> str:
        if identity.nic is None and wanted > size:
            return inject(host, disk, identity, grown=wanted)
        grow(host, disk, size, wanted)
        return inject(host, disk, identity)

    def ready(self, host: Host, disk: str, *, cut_off: bool) -> None:
        """debugfs reads no journal. It would take inodes and blocks that the journal has given to files of the guest."""
        try:
            tools.run(host, disk, "sh", "-c", _CHECK if cut_off else _REPLAY, disk)
        except (CommandFailed, CommandTimedOut, OutputTooLong) as error:
            raise damaged(str(error)) from error

    def again(self, host: Host, disk: str, identity: Identity) -> str:
        return inject(host, disk, identity)


EXT4 = Ext4()


@dataclass(frozen=True)
class Staged:
    """A copy of an image that is not a VM's disk yet. `maker`: the user of the programs that write it. `wanted`: bytes."""

    host: Host
    part: str
    disk: str
    user: int
    maker: int
    size: int
    wanted: int
    writer: Writer

    def write(self, identity: Identity) -> str:
        """Return a description of the written network configuration. Raises AgentError (from the writer), HostError."""
        return self.writer.first(self.host, self.part, self.size, self.wanted, identity)

    def place(self) -> None:
        """Make it the disk of `user`, atomically. Raises Failed if another file would be: the VMM may have this one open."""
        if self.maker != self.user:
            before = self.host.stat(self.part)
            untrusted.hand_over(self.host, self.part, self.user)
            after = self.host.stat(self.part)
            if before is None or after is None or (before.device, before.inode) != (after.device, after.inode):
                raise Failed("NQR-VMM-122", f"{self.part} got a second name while it was written.", "Do not use this image.")
        self.host.rename(self.part, self.disk)

    def drop(self) -> None:
        self.host.remove(self.part)


def stage(
    host: Host, *, image: str, disk: str, user: int, maker: int, size_mib: int, writer: Writer = EXT4, seen: Stat | None = None
) -> Staged:
    """Copy the file `image` beside `disk`. `seen`: the file whose content was verified. Raises Refused (disk smaller than the image),
    HostError (no space, or another file than `seen`)."""
    part = f"{disk}.new"
    found = seen or host.stat(image)
    size = found.size if found else 0
    if size_mib * MIB + MIB <= size:
        raise Refused(
            "NQR-VMM-108",
            f"A disk of {size_mib} MiB is smaller than the image's {-(-size // MIB)} MiB.",
            "Use a larger disk, or leave the size out to use the image's size.",
        )
    host.remove(part)
    staged = Staged(host, part, disk, user, maker, size, size_mib * MIB, writer)
    try:
        # The group passes through the VM's folder. It may read and write nothing there that `maker` should not. A VMM that starts
        # meanwhile opens the disk by its group, and takes its length then.
        mode = 0o600 if maker == user else 0o660
        host.copy_file(image, part, mode=mode, owner=str(maker), group=str(user), seen=seen)
        if maker != user and staged.wanted > size:
            untrusted.lengthen(part, staged.wanted)
    except HostError:
        staged.drop()
        raise
    return staged


def create(host: Host, *, image: str, disk: str, user: int, size_mib: int, identity: Identity, writer: Writer = EXT4) -> str:
    """Create `disk`, which belongs to `user`, from the file `image`, atomically. Return a description of the written network
    configuration.

    Raises Refused (disk smaller than the image), AgentError (from `writer`), HostError (no space).
    """
    staged = stage(host, image=image, disk=disk, user=user, maker=user, size_mib=size_mib, writer=writer)
    try:
        network = staged.write(identity)
        staged.place()
        return network
    except (HostError, AgentError):
        staged.drop()
        raise


def grow(host: Host, disk: str, size: int, wanted: int) -> None:
    """Check the ext file system in `disk` and grow file and file system to `wanted` bytes (never shrinks)."""
    try:
        tools.run(host, disk, "sh", "-c", _GROW if wanted > size else _CHECK, disk, str(wanted), size=wanted)
    except (CommandFailed, CommandTimedOut, OutputTooLong) as error:
        raise _unusable(error) from error


def _unusable(error: HostError) -> Failed:
    return Failed("NQR-IMG-102", f"The image's file system cannot be used ({error}).", "Build or add the image again.")


def damaged(why: str) -> Failed:
    return Failed(
        "NQR-VMM-141",
        f"The file system of the VM's disk is damaged ({why}).",
        "Restore a snapshot of the VM, or repair the file system on its host.",
    )


def inject(host: Host, disk: str, identity: Identity, *, grown: int = 0) -> str:
    """Write the identity into the file system in `disk`, which no VM may be using, and read it back.

    `grown`: bytes to check the file system and grow it to before. Return a description of the written network configuration.
    """
    folder = f"{disk}.inject"
    tools.scratch(host, disk, folder)
    owner = tools.owner_of(host, disk)
    try:
        files, told_network = identity.files(), ""
        if identity.nic is not None:
            plan = choose.decide(ext4.look(host, disk, folder, choose.wanted()), identity.nic)
            files |= {path: (mode, Secret(text)) for path, (mode, text) in plan.files.items()}
            told_network = plan.told
        for number, (_, content) in enumerate(files.values()):
            host.write_file(f"{folder}/{number}", content, mode=0o600, owner=owner, synced=False)
        parents = sorted({parent for path in files for parent in guest_paths.parents(path)})
        look = "".join(f"stat {path}\n" for path in parents)
        for name, text in (("look", look), ("script", script(folder, files))):
            host.write_file(f"{folder}/{name}", text.encode(), mode=0o600, owner=owner, synced=False)
        told = _write(host, disk, folder, grown)
        for number, path in enumerate(files):
            expected = files[path][1].reveal().encode()
            if tools.written(host, disk, f"{folder}/{number}.back", len(expected)) != expected:
                why = told.stderr.strip().splitlines()[-1:] or ["it could not be read back"]
                raise Failed(
                    "NQR-IMG-103",
                    f"{path} does not fit or cannot be written to the VM's disk ({why[0]}).",
                    "Give the VM a larger disk, or correct the image.",
                )
    finally:
        host.remove_tree(folder, synced=False)
    if identity.accounts:
        accounts.inject(host, disk, identity.accounts)
    return told_network


def _write(host: Host, disk: str, folder: str, grown: int) -> Completed:
    """debugfs reports failures on stderr and exits 0: what counts is what can be read back. Raises Failed."""
    try:
        run = (_GROW if grown else "") + _WRITE
        return tools.run(host, disk, "sh", "-c", run, disk, str(grown), folder, size=grown)
    except CommandFailed as error:
        if error.code == _NO_FOLDER:
            told = tools.written(host, disk, f"{folder}/told", tools.LARGEST_OUTPUT) or b""
            path = next((path for path, kind in kinds_of(told.decode(errors="replace")) if kind != "directory"), "A parent")
            raise Failed("NQR-IMG-103", f"{path} is not a folder in this image.", "Correct the image.") from error
        if error.code == _UNUSABLE:
            raise _unusable(error) from error
        raise
    except (CommandTimedOut, OutputTooLong) as error:
        if grown:
            raise _unusable(error) from error
        raise


def kinds_of(text: str) -> list[tuple[str, str]]:
    """Parse the output of debugfs's `stat PATH` commands: path and type of each that exists. Pure."""
    return re.findall(r"^debugfs: stat (\S+)\nInode: \d+\s+Type: (\w+)", text, re.MULTILINE)


def script(folder: str, files: Mapping[str, tuple[int, object]]) -> str:
    """Return debugfs commands that put `folder/0`, `folder/1` ... in place and dump them back. Pure.

    `rm` of a missing file only prints a warning. `write` takes a name in the current folder, hence the `cd`. The dump uses full
    paths, so that it reveals a failed `cd`.
    """
    lines = []
    for number, (path, (mode, _)) in enumerate(files.items()):
        parent, _, name = path.rpartition("/")
        if parent.endswith("/.ssh"):
            lines.append(f"set_inode_field {parent} mode 040700")
        lines += [
            f"cd {parent}",
            f"rm {name}",
            f"write {folder}/{number} {name}",
            f"set_inode_field {path} mode 0100{mode:o}",
            f"set_inode_field {path} uid 0",
            f"set_inode_field {path} gid 0",
            f"dump {path} {folder}/{number}.back",
        ]
    return "\n".join([*lines, "quit", ""])

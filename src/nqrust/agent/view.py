"""The host's files as the processes of a VM see them: tables of mounts (fstab(5)) and shell lines, for a mount namespace of theirs.

    hidden      no sockets of services: D-Bus, systemd, the journal, databases, containers; no folder for everybody's files
    devices     a small /dev. It lacks /dev/shm and /dev/mqueue, the host's other devices, and /dev/ptmx: who opens that
                often enough leaves the host without terminals
    closed      nothing of the host's local file systems can be written to

So a program that is in the hands of a guest can create no file. It writes to those that it has: its disks and its log.

One mount(8) does a whole table: a process for each mount would cost milliseconds of each start.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

_FOR_EVERYBODY = ("/run", "/tmp", "/var/tmp")
IN_DEV = ("/dev/shm", "/dev/mqueue")
"""Folders of that kind below /dev. Not every host has both."""
_PLAIN = "null zero random urandom tty"
_LOCAL = "ext[234]|xfs|btrfs|f2fs|bcachefs|zfs|jfs|reiserfs|nilfs2|hfsplus|udf|ntfs3|exfat|overlay|vfat|tmpfs|ramfs"
"""Types of file systems that are made read-only. A look at one on a dead server would not return."""
_CONTAINERS = "/var/lib/docker/*|/var/lib/containers/*|/var/lib/containerd/*|/var/lib/kubelet/*"
"""There may be hundreds of mounts, which only root reaches."""

_CLOSED = f"""\
each() {{ # command for the options, the mount point and its form in a table, of each mount that can be written to
    LC_ALL=C sed -nE 's/^[^ ]+ ([^ ]+) ({_LOCAL}) (rw[^ ]*) .*/\\1 \\3/; T; s/,(lower|upper|work)dir=[^ ,]*//g; p' /proc/self/mounts |
    while read -r listed options; do
        mount_point=$listed
        case $listed in *\\\\*) # a blank is \\040, and so on: proc_mounts(5)
            mount_point=$(printf "$(printf %s. "$listed" | sed 's/%/%%/g')")
            mount_point=${{mount_point%.}} ;;
        esac
        case $mount_point in "$writable" | "$writable"/* | {_CONTAINERS} | /dev/*) continue ;; esac
        [ -e "$mount_point" ] || continue # below a folder that is hidden
        flags=remount,bind,ro
        for flag in nosuid nodev noexec; do case ,$options, in *,"$flag",*) flags=$flags,$flag ;; esac; done
        "$1" "$flags" "$mount_point" "$listed" </dev/null
    done
}}
entry() {{ printf '%s\\n' "nqr-closed $3 none $1 0 0"; }}
single() {{ mount -n -o "$1" "$2" 2>/dev/null; }} # one that lies below another mount is out of reach, and refused
each entry >"$writable/mounts-of-host" 2>/dev/null # a full disk only costs time
mount -n -a -T "$writable/mounts-of-host" 2>/dev/null || :
each single || : # what is left, such as /, which that call leaves out
:"""
"""One call for all mounts, and a look at what came of it. A shell reads a file byte by byte, and a host with containers has hundreds
of mounts, so sed(1) picks the lines."""

Mount = tuple[str, str, str, str]
"""Source, place, type and options."""


def bind(source: str, place: str) -> Mount:
    return (source, place, "none", "bind")


def hidden(*needed: str, in_dev: Iterable[str] = ()) -> tuple[Mount, ...]:
    """Empty folders in place of those with sockets and files of everybody. One with a path of `needed` in it stays. `in_dev`: the
    folders of that kind below /dev, for programs that keep the host's /dev."""
    options = "ro,nosuid,nodev,noexec,mode=0755,size=4k"
    folders = (*_FOR_EVERYBODY, *in_dev)
    left = (folder for folder in folders if not any(f"{path}/".startswith(f"{folder}/") for path in needed))
    # A name of its own: mount(8) leaves out what it takes for mounted.
    return tuple(("nqr-hidden", folder, "tmpfs", options) for folder in left)


def stage(directory: str) -> str:
    """Folder below that of a VM where its /dev is put together."""
    return f"{directory}/dev"


def own_devices(directory: str) -> str:
    """Folder below that of a VM for the device nodes that it has beside those of every program."""
    return f"{directory}/devices"


def devices(directory: str) -> tuple[Mount, ...]:
    """A folder that becomes /dev, with the host's terminals. `filled` puts devices there, `closed` shows it."""
    place = stage(directory)
    return (
        ("nqr-dev", place, "tmpfs", "nosuid,noexec,mode=0755,size=64k,nr_inodes=32"),
        ("/dev/pts", f"{place}/pts", "none", "bind,X-mount.mkdir"),
        bind("/dev/null", f"{place}/pts/ptmx"),
    )


def filled(directory: str) -> str:
    """Copy device nodes: those of every program, and the VM's own."""
    own = shlex.quote(f"{own_devices(directory)}/.")
    return f"(cd /dev && cp -a {_PLAIN} {own} {shlex.quote(stage(directory))})"


def closed(directory: str) -> str:
    """Show that /dev and nothing else of it, and make the rest of the host's files read-only but for a mount at `directory`."""
    moved = f"mount -n --move {shlex.quote(stage(directory))} /dev"
    return f"{moved} && {{ writable={shlex.quote(directory)}; {_CLOSED}; }}"


def table(mounts: Iterable[Mount]) -> str:
    return "".join(f"{' '.join(map(_escaped, mount))} 0 0\n" for mount in mounts)


def mounted(mounts: Iterable[Mount], file: str, *, again: bool = True) -> str:
    """Write the table into `file`, and do what it says. `again`: also if the file is there."""
    quoted = shlex.quote(file)
    there = "" if again else f"[ -s {quoted} ] || "
    return f"{{ {there}printf %s {shlex.quote(table(mounts))} >{quoted}; }} && mount -n -a -T {quoted}"


def only_hidden(needed: str, in_dev: Iterable[str]) -> str:
    """Hide folders, with the table in the first of them: no file is left on the disk."""
    (_, first, _, _), *others = hidden(needed, in_dev=in_dev)
    options = "nosuid,nodev,noexec,mode=0755,size=16k"  # root alone writes there
    return f"mount -n -t tmpfs -o {options} nqr-hidden {first} && {mounted(others, f'{first}/mounts')}"


def _escaped(field: str) -> str:
    return "".join(f"\\{ord(one):03o}" if one in " \t\n\\#" else one for one in field)

"""The image's fstab(5), for a disk that is the root file system alone. Pure.

An entry for a partition that stays behind would keep systemd waiting for 90 seconds, and then stop the boot.
"""

from __future__ import annotations

ROOT_DEVICE = "/dev/vda"
_DEVICES = ("UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "/dev/")
_NOTE = "# Not in this VM's disk: "


def is_lost(line: str) -> bool:
    """Return whether a line mounts a partition other than the root file system."""
    fields = line.split()
    return len(fields) > 1 and not line.lstrip().startswith("#") and fields[1] != "/" and fields[0].startswith(_DEVICES)


def rewritten(text: str) -> str:
    """Return the text with the root on ROOT_DEVICE, and the lost entries as comments."""
    lines = []
    for line in text.splitlines():
        fields = line.split()
        if is_lost(line):
            lines.append(_NOTE + line)
        elif len(fields) > 1 and fields[1] == "/" and not line.lstrip().startswith("#"):
            lines.append(" ".join([ROOT_DEVICE, *fields[1:]]))
        else:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)

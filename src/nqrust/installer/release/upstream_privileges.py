"""The commands that upstream's manager runs as root through sudo: those of its own list, each with bounded arguments.

The manager mounts a VM's disk at /tmp/vm-ID-rootfs or below the folder of the VMs, and writes into it. The expressions bind
each command to these places. They limit mistakes, and not an attacker: who controls the manager can place symbolic links
there. The agent runs as root and needs no rule.
"""

from __future__ import annotations

from nqrust.installer.release.descriptor import Privilege

_NAME = r"\.?[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*"  # neither empty nor `..`
_BELOW = f"(/{_NAME})+"
_MOUNTED = r"/tmp/vm-[A-Za-z0-9-]+"
_PLACE = f"(({{vms}}){_BELOW}|{_MOUNTED})"
_INSIDE = f"(({{vms}})|{_MOUNTED}){_BELOW}"
_DISK = f"({{vms}}|{{images}}){_BELOW}"
_SOURCE = f"({{vms}}|{{images}}|{{bin}}|/tmp){_BELOW}"

_COMMANDS = (
    ("mount", f"-o loop(,[a-z]+)* {_DISK} {_PLACE}", "mount a VM's root file system"),
    ("umount", f"(-l )?{_PLACE}", "unmount it"),
    ("cp", f"(-[aprR]+ )?{_SOURCE} {_INSIDE}", "copy files into it"),
    ("mv", f"(-f )?{_SOURCE} {_INSIDE}", "move files into it"),
    ("chmod", rf"(\+x|0?[0-7]{{{{3}}}}) {_INSIDE}", "set modes in it"),
    ("chown", f"(-R )?[a-z0-9_-]+(:[a-z0-9_-]+)? {_INSIDE}", "set owners in it"),
    ("cat", f"(({{vms}})(/{_NAME})*|{_MOUNTED})/etc/shadow", "read password hashes in it"),
    ("tee", f"(-a )?{_INSIDE}", "write files in it"),
    ("dd", f"if={_SOURCE} of={_INSIDE}( (bs|count|seek|conv)=[0-9A-Za-z]+)*", "write to it"),
    ("mkdir", f"(-p )?{_INSIDE}", "make folders in it"),
    ("ln", f"-sf? [A-Za-z0-9._/@+-]+ {_INSIDE}", "enable the guest agent in it"),
    ("touch", _INSIDE, "make files in it"),
    ("test", f"-[def] {_INSIDE}", "find its init system"),
    ("ls", f"(-[la]+ )?{_INSIDE}", "find its init system"),
)

PRIVILEGES = tuple(
    Privilege(component="manager", argv=(f"/usr/bin/{program}",), arguments=f"^{expression}$", why=why)
    for program, expression, why in _COMMANDS
)

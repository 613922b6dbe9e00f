"""Frames of VMs that the host has to finish, and whether it does so before its rules see them. linux/if_tun.h"""

from __future__ import annotations

from nqrust.contract.names import ifb_name
from nqrust.host.port import Host
from nqrust.host.tun import has_header
from nqrust.installer.proofs.hops import Unproven

_NET, _OF_VMS = "/sys/class/net", "tap???????????"


def finished(host: Host) -> None:
    """Raise Unproven if a VM's frames go straight on. The agent gives each such TAP a device of its own where the kernel can."""
    for path in host.glob(f"{_NET}/{_OF_VMS}"):
        tap = path.rpartition("/")[2]
        if has_header(host, tap) and not host.exists(f"{_NET}/{ifb_name(tap)}"):
            raise Unproven(
                f"frames from {tap} can change after the rules that keep guests from the host: this kernel lacks "
                "ifb, act_mirred, cls_u32 or sch_ingress"
            )

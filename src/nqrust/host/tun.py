"""TAPs, as the kernel tells of them. linux/if_tun.h"""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Host

_IFF_VNET_HDR = 0x4000


def has_header(host: Host, tap: str) -> bool | None:
    """Return whether a frame from the TAP comes with a virtio-net header. The program that opens a TAP decides that. None: nobody
    knows, as the TAP is gone."""
    try:
        return int(host.read_text(f"/sys/class/net/{tap}/tun_flags"), 16) & _IFF_VNET_HDR != 0
    except (HostError, ValueError):
        return None

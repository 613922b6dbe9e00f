"""Work on packets that the kernel leaves to a card: checksums and the division of large packets. linux/ethtool.h

ethtool(8) may be missing, so this asks the kernel itself.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from nqrust.host.errors import PathError, translating

_SIOCETHTOOL = 0x8946
_GET_STRINGS, _GET_SET, _GET_FEATURES, _SET_FEATURES = 0x1B, 0x37, 0x3A, 0x3B
_FEATURES = 4  # ETH_SS_FEATURES
_NAME = 32  # ETH_GSTRING_LEN
_WORK = ("tx-checksum-", "tx-scatter-gather", "tx-gso-", "-segmentation", "tx-udp-fragmentation")


class Offloads:
    def leave_no_work(self, link: str) -> tuple[str, ...]:
        with (
            translating(f"/sys/class/net/{link}"),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door,
        ):
            names = _names(door, link)
            found = _active(door, link, names)
            if found:
                _turn_off(door, link, names, found)
                left = _active(door, link, names)
                if left:
                    raise PathError(f"/sys/class/net/{link}", f"the kernel leaves {left[0]} on")
        return found


def _names(door: socket.socket, link: str) -> tuple[str, ...]:
    """Return the name of each feature, by its number."""
    (count,) = struct.unpack_from("=I", _ask(door, link, struct.pack("=IIQI", _GET_SET, 0, 1 << _FEATURES, 0)), 16)
    answer = _ask(door, link, struct.pack("=III", _GET_STRINGS, _FEATURES, count) + bytes(count * _NAME))[12:]
    return tuple(answer[at : at + _NAME].partition(b"\0")[0].decode(errors="replace") for at in range(0, count * _NAME, _NAME))


def _active(door: socket.socket, link: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is on of the work on packets."""
    blocks = (len(names) + 31) // 32
    answer = _ask(door, link, struct.pack("=II", _GET_FEATURES, blocks) + bytes(16 * blocks))
    active = [block[2] for block in struct.iter_unpack("=4I", answer[8:])]
    on = (name for number, name in enumerate(names) if active[number // 32] >> number % 32 & 1)
    return tuple(name for name in on if any(part in name for part in _WORK))


def _turn_off(door: socket.socket, link: str, names: tuple[str, ...], off: tuple[str, ...]) -> None:
    chosen = [0] * ((len(names) + 31) // 32)
    for name in off:
        number = names.index(name)
        chosen[number // 32] |= 1 << number % 32
    _ask(door, link, struct.pack("=II", _SET_FEATURES, len(chosen)) + b"".join(struct.pack("=II", one, 0) for one in chosen))


def _ask(door: socket.socket, link: str, question: bytes) -> bytes:
    answer = ctypes.create_string_buffer(question, len(question))
    name = link.encode()
    if not 0 < len(name) < 16:
        raise ValueError(f"{link!r} is no name of a link")
    fcntl.ioctl(door, _SIOCETHTOOL, struct.pack("@16sP8x", name, ctypes.addressof(answer)))
    return answer.raw

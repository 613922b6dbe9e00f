"""The way into a guest: messages between nqr and the guest agent, and their frames on the connection of a VM.

    nqr - WebSocket - manager - WebSocket - agent - virtio-serial or vsock - guest agent

A WebSocket carries one session: each binary message is a kind (1 byte) and its payload. The connection of a VM carries all of
its sessions in frames: kind (1 byte), stream (4), length (2), payload; a zero byte where a frame begins is padding. Numbers are
big-endian. `guest-agent/src` is the other side.

Nobody sends more than WINDOW bytes of input or output before the receiver gave credit for them, so nothing between the two ends
grows without bound. The guest is hostile: what it sends is checked here before anything else sees it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum

VERSION = 1
MAX_PAYLOAD = 32 * 1024
BOOT_SECONDS = 300.0
"""Seconds since the start of a VM in which its guest may boot."""
WINDOW = 256 * 1024
NONCE = 16
PORT_NAME = "org.nqrust.guest.0"
"""Of the virtio-serial port."""
VSOCK_PORT = 1023
"""In the guest, only root may listen there: vsock(7). Nobody else answers in place of the guest agent."""
_HEADER = struct.Struct(">BIH")
RESYNC = bytes(_HEADER.size + MAX_PAYLOAD)
"""Completes half a frame of an earlier connection, wherever it was cut."""


class Kind(IntEnum):
    """Kinds of messages and frames. (h): from the host, (g): from the guest."""

    hello = 1  # h: version, nonce; ends all sessions of an earlier connection
    welcome = 2  # g: version, nonce
    boot = 3  # g: the guest agent has just started
    exec = 4  # h: a request
    started = 5  # g
    stdin = 6  # h: empty is the end
    stdout = 7  # g
    stderr = 8  # g
    credit = 9  # both: bytes
    resize = 10  # h: rows, columns
    signal = 11  # h: number
    exit = 12  # g: 0 and an exit code, or 1 and a signal
    error = 13  # g: a Reason and a text; nothing runs
    close = 14  # h: the session is over


OF_A_SESSION = {Kind.started, Kind.stdout, Kind.stderr, Kind.credit, Kind.exit, Kind.error}
"""Kinds that a guest sends on a stream."""


class Reason(IntEnum):
    """Why a guest started nothing."""

    not_found = 1
    not_runnable = 2
    bad_request = 3
    too_many = 4
    switched_off = 5


class CloseCode(IntEnum):
    """Of the WebSocket, when a session ends without `exit` or `error`. The last three digits are an HTTP status."""

    bad_message = 4400
    not_permitted = 4403
    no_such_vm = 4404
    not_running = 4409
    lost = 4410  # the connection to the guest ended
    too_many = 4429
    agent_away = 4502
    no_answer = 4504  # nothing in the guest answers


class ProtocolError(Exception):
    """The other side sent what the protocol does not have."""


@dataclass(frozen=True)
class ExecRequest:
    """A program to run in the guest, as its root. No `command`: root's login shell. `terminal`: rows and columns, or None for
    pipes. `environment` adds to the guest agent's own."""

    command: tuple[bytes, ...] = ()
    environment: tuple[tuple[bytes, bytes], ...] = ()
    directory: bytes | None = None
    terminal: tuple[int, int] | None = None

    def encode(self) -> bytes:
        """Return the request's payload. Raises ProtocolError if it is no request, or longer than MAX_PAYLOAD."""
        fields = [(b"a", word) for word in self.command] or [(b"l", b"")]
        fields += [(b"e", name + b"=" + value) for name, value in self.environment]
        if self.directory is not None:
            fields.append((b"d", self.directory))
        if any(b"\0" in value for _, value in fields):
            raise ProtocolError("a text holds a zero byte")
        if self.command and not self.command[0]:
            raise ProtocolError("the command is empty")
        if any(not name or b"=" in name for name, _ in self.environment):
            raise ProtocolError("a variable has no name")
        if self.terminal is not None:
            fields.append((b"t", size(*self.terminal)))
        if sum(3 + len(value) for _, value in fields) > MAX_PAYLOAD:
            raise ProtocolError(f"the command, with its variables, is longer than {MAX_PAYLOAD} bytes")
        return b"".join(tag + struct.pack(">H", len(value)) + value for tag, value in fields)

    @classmethod
    def parse(cls, payload: bytes) -> ExecRequest:
        """Raises ProtocolError."""
        command: list[bytes] = []
        environment: list[tuple[bytes, bytes]] = []
        directory: bytes | None = None
        terminal: tuple[int, int] | None = None
        at, shell = 0, False
        while at < len(payload):
            if at + 3 > len(payload):
                raise ProtocolError("the request ends within a field")
            tag, (length,) = payload[at : at + 1], struct.unpack_from(">H", payload, at + 1)
            value = payload[at + 3 : at + 3 + length]
            at += 3 + length
            if len(value) != length:
                raise ProtocolError("a field is longer than the request")
            if tag == b"a":
                command.append(value)
            elif tag == b"e":
                name, _, rest = value.partition(b"=")
                environment.append((name, rest))
            elif tag == b"d":
                directory = value
            elif tag == b"t":
                terminal = parse_size(value)
            elif tag == b"l":
                shell = True
            else:
                raise ProtocolError("the request has an unknown field")
        if shell == bool(command):
            raise ProtocolError("a request has a command or asks for the login shell")
        request = cls(tuple(command), tuple(environment), directory, terminal)
        request.encode()
        return request


def size(rows: int, columns: int) -> bytes:
    """Return the payload of a size. Sizes beyond 16 bits are cut."""
    return struct.pack(">HH", min(max(rows, 0), 0xFFFF), min(max(columns, 0), 0xFFFF))


def parse_size(payload: bytes) -> tuple[int, int]:
    if len(payload) != 4:
        raise ProtocolError("a size has two numbers")
    rows, columns = struct.unpack(">HH", payload)
    return rows, columns


def credit(count: int) -> bytes:
    return struct.pack(">I", count)


def parse_credit(payload: bytes) -> int:
    """Return a number from 1 to WINDOW. Raises ProtocolError."""
    count = int.from_bytes(payload, "big")
    if len(payload) != 4 or not 1 <= count <= WINDOW:
        raise ProtocolError("that is no credit")
    return count


def parse_exit(payload: bytes) -> int:
    """Return the exit code as a shell shows it: 128 + the number for a signal. Raises ProtocolError."""
    if len(payload) != 2 or payload[0] > 1 or (payload[0] == 1 and payload[1] > 64):
        raise ProtocolError("that is no exit status")
    return payload[1] + (128 if payload[0] else 0)


def parse_error(payload: bytes) -> tuple[Reason, str]:
    """Return reason and text. The text is the guest's: show it through `contract.text.plain`. Raises ProtocolError."""
    try:
        reason = Reason(payload[0])
    except (IndexError, ValueError):
        raise ProtocolError("that is no reason") from None
    return reason, payload[1:2048].decode("utf-8", "replace")


def message(kind: Kind, payload: bytes = b"") -> bytes:
    """A message of a session on a WebSocket."""
    return bytes([kind]) + payload


def parse_message(data: bytes | str | None, allowed: Collection[int]) -> tuple[Kind, bytes]:
    """Return kind and payload of a WebSocket's message. Raises ProtocolError."""
    if not isinstance(data, bytes) or not 1 <= len(data) <= 1 + MAX_PAYLOAD:
        raise ProtocolError("that is no message")
    if data[0] not in allowed:
        raise ProtocolError("that message is not expected here")
    return Kind(data[0]), data[1:]


def frame(kind: Kind, stream: int, payload: bytes = b"") -> bytes:
    return _HEADER.pack(kind, stream, len(payload)) + payload


def hello(nonce: bytes) -> bytes:
    return RESYNC + frame(Kind.hello, 0, bytes([VERSION]) + nonce)


def welcome(nonce: bytes) -> bytes:
    return frame(Kind.welcome, 0, bytes([VERSION]) + nonce)


class Frames:
    """A parser: bytes in, frames out. It keeps less than one frame. `padding`: bytes of it so far."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self.padding = 0

    def feed(self, data: bytes) -> Sequence[tuple[int, int, bytes]]:
        """Return the frames that are complete with `data`: kind, stream, payload. Raises ProtocolError for one that is too long."""
        self._rest += data
        found: list[tuple[int, int, bytes]] = []
        at = 0
        while True:
            if at < len(self._rest) and not self._rest[at]:
                begin = len(self._rest) - len(self._rest[at:].lstrip(b"\0"))
                self.padding += begin - at
                at = begin
            if len(self._rest) - at < _HEADER.size:
                break
            kind, stream, length = _HEADER.unpack_from(self._rest, at)
            if length > MAX_PAYLOAD:
                raise ProtocolError("a frame is too long")
            end = at + _HEADER.size + length
            if len(self._rest) < end:
                break
            found.append((kind, stream, bytes(self._rest[at + _HEADER.size : end])))
            at = end
        del self._rest[:at]
        return found

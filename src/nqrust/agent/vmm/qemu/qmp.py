"""A QMP conversation. https://www.qemu.org/docs/master/interop/qmp-spec.html

QEMU serves one client at a time and the others wait, so a conversation is short: connect, negotiate, ask, leave.
"""

from __future__ import annotations

import json
import socket
import time
from types import TracebackType
from typing import Any

_LONGEST = 1 << 20  # bytes of one answer


class QmpError(Exception):
    """No connection, no answer in time, or an answer that says no."""


class Qmp:
    """Context manager; `execute` returns what is under `return`. Events that come between are skipped."""

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self._deadline = time.monotonic() + timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = path
        self._buffer = b""

    def __enter__(self) -> Qmp:
        try:
            self._arm()
            self._socket.connect(self._path)
            if "QMP" not in self._receive():
                raise QmpError("the greeting is not QMP's")
            self.execute("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise QmpError(str(error)) from error
        except QmpError:
            self._socket.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def give(self, name: str, descriptor: int) -> None:
        """Hand QEMU an open file, which it then knows as `fd:name`. unix(7), SCM_RIGHTS."""
        request = {"execute": "getfd", "arguments": {"fdname": name}}
        try:
            self._arm()
            socket.send_fds(self._socket, [json.dumps(request).encode() + b"\r\n"], [descriptor])
            self._answer("getfd")
        except OSError as error:
            raise QmpError(f"getfd: {error}") from error

    def execute(self, name: str, **arguments: Any) -> Any:
        request: dict[str, Any] = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        try:
            self._arm()
            self._socket.sendall(json.dumps(request).encode() + b"\r\n")
            return self._answer(name)
        except OSError as error:
            raise QmpError(f"{name}: {error}") from error

    def _answer(self, name: str) -> Any:
        while True:
            answer = self._receive()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise QmpError(f"{name}: {answer['error'].get('desc', answer['error'])}")

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._arm()
            data = self._socket.recv(65536)
            if not data:
                raise QmpError("QEMU closed the connection")
            self._buffer += data
            if len(self._buffer) > _LONGEST:
                raise QmpError("the answer is too long")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise QmpError(f"the answer is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise QmpError("the answer is not an object")
        return answer

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise QmpError("no answer in time")
        self._socket.settimeout(left)

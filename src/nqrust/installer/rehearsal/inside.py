"""Runs in the clone: fingerprint, the real `nqr install`, fingerprint. Reports over a socket in JSON lines."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any, Protocol

from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost
from nqrust.host.port import Command
from nqrust.installer import fingerprint
from nqrust.installer.fingerprint.model import Difference
from nqrust.installer.rehearsal.boot import WORK
from nqrust.installer.rehearsal.spec import CONTROL

_ALREADY_MEASURED = ("files", "folders", "mounts")
"""The overlays' layers give more exact results for files."""


class Stream(Protocol):
    def write(self, data: bytes, /) -> object: ...

    def readline(self) -> bytes: ...

    def flush(self) -> None: ...


def main() -> int:
    with open(WORK, encoding="utf-8") as file:
        work: dict[str, Any] = json.load(file)
    os.unlink(WORK)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(f"{CONTROL}/socket")
    with connection, connection.makefile("rwb") as stream:
        run(work, stream, LocalHost())
    return 0


def run(work: dict[str, Any], stream: Stream, host: Any) -> None:
    """Measure and run the install. Writes lines to `stream`, and reads one answer to `clone_ready` from it."""

    def say(line: dict[str, Any]) -> None:
        stream.write(json.dumps(line).encode() + b"\n")
        stream.flush()

    before = fingerprint.take(host)
    say({"type": "clone_ready"})
    stream.readline()
    began = host.monotonic()
    command = Command(tuple(work["argv"]), env=work["environment"], timeout=work["limit"], ok=tuple(range(256)), cwd=work["cwd"])
    try:
        code = host.run(command, on_line=lambda line: say(_heard(line))).code
    except HostError as error:
        say({"type": "clone_output", "text": str(error)})
        code = 1
    seconds = host.monotonic() - began
    for one in fingerprint.compare(before, fingerprint.take(host)):
        if one.section not in _ALREADY_MEASURED:
            say(_measured(one))
    say({"type": "clone_done", "code": code, "seconds": seconds})


def _heard(line: str) -> dict[str, Any]:
    """Return a JSON object of the install unchanged, and any other line as text."""
    if line.startswith("{"):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict) and not str(found.get("type", "clone_")).startswith("clone_"):
            return found
    return {"type": "clone_output", "text": line}


def _measured(one: Difference) -> dict[str, Any]:
    text = fingerprint.render([one]).splitlines()[1].strip()
    return {"type": "clone_measured", "section": one.section, "sign": one.sign, "key": one.key, "text": text}


if __name__ == "__main__":
    sys.exit(main())

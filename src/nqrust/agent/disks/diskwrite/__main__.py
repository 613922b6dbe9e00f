"""Entry of `nqrust-helper disk-write`: `python -I -m nqrust.agent.disks.diskwrite VMS_DIR`, a request on standard input.

Exit code 0: written. 1: not written; standard output has the reason. 2: the request is invalid and nothing was changed.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from pydantic import ValidationError

from nqrust.agent.disks.diskwrite import document, mounting, writer
from nqrust.agent.errors import AgentError, Failed
from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost

DEADLINE = 1500
"""Seconds for the whole request: two checks, growing, writing."""


def main() -> int:
    if len(sys.argv) != 2 or not os.path.isabs(sys.argv[1]):
        return _refuse("one argument is needed: the folder of the VMs")
    data = sys.stdin.buffer.read(document.LARGEST + 1)
    if len(data) > document.LARGEST:
        return _refuse(f"the request is longer than {document.LARGEST} bytes")
    try:
        request = document.Request.model_validate_json(data)
    except ValidationError as error:  # never repeat its input: it holds secrets
        places = ", ".join(".".join(str(part) for part in found["loc"]) or "document" for found in error.errors()[:5])
        return _refuse(f"the request is wrong in: {places}")
    os.umask(0o077)
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.signal(signal.SIGTERM, _out_of_time)  # as the first process of its PID namespace it would survive the signal
    signal.alarm(DEADLINE)
    try:
        network = writer.write(LocalHost(), sys.argv[1], request, mounting.make_private())
        answer = document.Answer(network=network)
    except AgentError as error:
        answer = document.Answer(code=error.code, what=error.what, cure=error.cure, status=error.status)
    except (HostError, OSError) as error:
        failed = Failed("NQR-IMG-109", f"The VM's disk could not be written to ({error}).", "Look into the host's kernel log.")
        answer = document.Answer(code=failed.code, what=failed.what, cure=failed.cure, status=failed.status)
    sys.stdout.write(answer.model_dump_json() + "\n")
    return 1 if answer.code else 0


def _refuse(why: str) -> int:
    sys.stderr.write(f"nqrust-helper: {why}\n")
    return 2


def _out_of_time(number: int, frame: FrameType | None) -> None:
    why = f"it took longer than {DEADLINE} s" if number == signal.SIGALRM else "it was told to end"
    raise Failed("NQR-IMG-109", f"The VM's disk could not be written to ({why}).", "Try again, or use a smaller image.")


if __name__ == "__main__":
    raise SystemExit(main())

"""Takes the installer's wheels out of a bundle. Standard library only, any Python >= 3.10.

Standard input: the bundle as a tar archive. Arguments: the folder for the wheels, and the lock files. Only wheels whose sha256 a lock
file names are kept, so the trust is that in this copy of the repository, and not in the bundle. nqr checks the bundle's own
signature later, before it takes anything else.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tarfile
from typing import BinaryIO

BLOCK = 512
LARGEST = 256 << 20  # bytes of one wheel
WHEEL = re.compile(r"wheels/([A-Za-z0-9_][A-Za-z0-9_.+-]*\.whl)")


def main(folder: str, locks: list[str], stream: BinaryIO) -> int:
    wanted = set()
    for lock in locks:
        with open(lock, encoding="utf-8") as file:
            wanted |= set(re.findall(r"--hash=sha256:([0-9a-f]{64})", file.read()))
    seen = False
    while any(header := exactly(stream, BLOCK)):
        entry = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        match = WHEEL.fullmatch(entry.name)
        if seen and match is None:
            break  # the wheels stand together
        if entry.type != tarfile.REGTYPE or not 0 <= entry.size <= LARGEST:
            raise ValueError(f"{entry.name!r} is no file of a bundle")
        data = exactly(stream, entry.size)
        exactly(stream, -entry.size % BLOCK)
        if match:
            seen = True
            if hashlib.sha256(data).hexdigest() in wanted:
                with open(os.path.join(folder, match[1]), "wb") as output:
                    output.write(data)
    return 0 if seen else 1


def exactly(stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) != size:
        raise ValueError("the bundle ends early")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:], sys.stdin.buffer))

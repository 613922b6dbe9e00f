"""Runs pip with those of this host's pip settings that say how to reach an index, and no others. Standard library only.

    python -m pip config list | python pip_of_host.py SRC download ...

SRC: the `src` folder. The rest is pip's, which replaces this process.
"""

from __future__ import annotations

import os
import sys


def main(src: str, arguments: list[str]) -> None:
    sys.path.insert(0, src)
    from nqrust.installer.release.pip_settings import environment

    variables = {**os.environ, **environment(sys.stdin.read(), os.environ)}
    os.execve(sys.executable, [sys.executable, "-I", "-m", "pip", *arguments], variables)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

"""Parameters of the running kernel, proc_sys(5)."""

from __future__ import annotations

import os

from nqrust.host.errors import translating


class Parameters:
    def set_parameter(self, path: str, value: str) -> None:
        with translating(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)  # never a new file, as `open` would make
            try:
                os.write(descriptor, f"{value}\n".encode())
            finally:
                os.close(descriptor)

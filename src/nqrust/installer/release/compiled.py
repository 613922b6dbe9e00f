"""Compiled modules of Python environments: made where they are needed, or once for a bundle. See the documentation of compileall.

Python takes a compiled module if it has the time and size of its source. So the sources of a bundle's modules get a fixed time.
Python compiles an edited source again, as always.
"""

from __future__ import annotations

from nqrust.host.port import Host, command

RARE = r"/site-packages/(pip/|docutils/|pygments/(lexers|styles)/[a-z])"
"""Modules that no service loads: a sixth of all. Python compiles them where something loads them."""
TIME = 1704067200  # of sources whose modules come from a bundle
_PACK = """
cd "$1"
find . -name '*.pyc' -print0 | LC_ALL=C sort -z |
    tar --null --no-recursion --mtime="@$3" --owner=0 --group=0 --numeric-owner --mode=0644 -cf "$2" -T -
"""
# Only modules of packages that are here: others would be packages without a source.
_TAKE = """
cd "$1"
{
    tar -tf "$2"
    find . -name '*.py' -printf '%h/__pycache__/%f\\n' | sed "s/py\\$/$3.pyc/"
} | LC_ALL=C sort | uniq -d | tar --no-same-owner -xf "$2" -T -
"""


def compile_all(host: Host, python: str, *libraries: str) -> None:
    """Compile the modules below `libraries` that are not compiled yet, on all processors. Raises HostError."""
    _compile(host, python, "-j", "0", *libraries)


def pack(host: Host, python: str, library: str, archive: str) -> None:
    """Compile the modules below `library`, a folder `site-packages`, into the new tar archive `archive`. The same modules give the same
    bytes. `python`: one like that of the hosts. Raises HostError."""
    _set_times(host, library)
    # In one process, whose state depends on the modules alone, and with paths that depend on no folder of this host.
    _compile(host, python, "-s", library, library)
    host.run(command("sh", "-euc", _PACK, "sh", library, archive, str(TIME), timeout=600))


def take(host: Host, archive: str, library: str, python_version: str) -> None:
    """Put the compiled modules of an archive beside their sources below `library`. Raises HostError."""
    _set_times(host, library)
    tag = "cpython-" + "".join(python_version.split(".")[:2])
    host.run(command("sh", "-euc", _TAKE, "sh", library, archive, tag, timeout=600))


def _compile(host: Host, python: str, *words: str) -> None:
    # Some modules are for other versions of Python (exit code 1).
    host.run(command(python, "-I", "-m", "compileall", "-q", "-x", RARE, *words, timeout=600, ok=(0, 1)))


def _set_times(host: Host, library: str) -> None:
    host.run(command("find", library, "-name", "*.py", "-exec", "touch", "-d", f"@{TIME}", "{}", "+", timeout=600))

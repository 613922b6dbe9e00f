"""Starts install.sh of the archive's source tree with the archive's wheels. Standard library only, any Python >= 3.6.

    nqr-installer.pyz [install|plan|uninstall|verify-clean] [OPTIONS]

The tree lives in a temporary folder while the program runs. Root runs programs from it, so root uses no TMPDIR of another user.
Everything else is the work of scripts/install/install.sh.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from typing import Any

ARCHIVE = os.path.dirname(os.path.abspath(__file__))
USUAL = "/var/tmp"
SCRIPTS = {"install": "install.sh", "plan": "install.sh", "uninstall": "uninstall.sh", "verify-clean": "verify-clean.sh"}


def main(arguments: Any) -> int:
    """Start the script that the first word names, wait for it, and return its exit code."""
    verb = arguments[0] if arguments and arguments[0] in SCRIPTS else ""
    script = SCRIPTS[verb or "install"]
    parent = place()
    if not parent:
        return refused(
            "NQR-DEP-912",
            f"Users other than root can change {USUAL}, so the installer has no safe folder for its own files.",
            f"Give {USUAL} and its parents to root with mode 1777 or 0755, or set TMPDIR to a folder that only root can change.",
        )
    folder = tempfile.mkdtemp(prefix="nqr-installer-", dir=parent)
    try:
        unpack(folder)
        variables = dict(os.environ, NQR_WHEELS=folder + "/wheels")
        if verb == "plan":
            variables["NQR_VERB"] = "plan"
        # sh, as the folder may be on a file system without programs (noexec).
        command = ["/bin/sh", folder + "/tree/scripts/install/" + script, *arguments[1 if verb else 0 :]]
        return follow(subprocess.Popen(command, env=variables))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        cache = os.environ.get("NQR_CACHE_DIR") or "/var/cache/nqrust-microvm"
        shutil.rmtree(cache + "/pycache" + folder, ignore_errors=True)


def place() -> str:
    """Return the folder for temporary files. For root one in which nobody else can replace what root made, or none."""
    for parent in (tempfile.gettempdir(), USUAL):
        parent = os.path.realpath(parent)
        if os.geteuid() != 0 or roots(parent):
            return parent
    return ""


def roots(folder: str) -> bool:
    """Tell whether only root can replace what is in `folder`: the rule of scripts/install/cache_folder.sh for temporary files."""
    while True:
        try:
            found = os.stat(folder)
        except OSError:
            return False
        if found.st_uid != 0 or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
            return False
        if folder == "/":
            return True
        folder = os.path.dirname(folder)


def refused(code: str, what: str, cure: str) -> int:
    sys.stderr.write(f"{code}: {what}\n  {cure}\n")
    return 2


def unpack(folder: str) -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        for entry in archive.infolist():
            if entry.filename != "__main__.py":
                os.chmod(archive.extract(entry, folder), entry.external_attr >> 16 & 0o777)


def follow(child: Any) -> int:
    def pass_on(number: int, frame: Any) -> None:
        child.send_signal(number)

    # The terminal sends SIGINT to the child too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    code: int = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

"""Fixed times in a file system that mke2fs(8) makes from a folder, so that the same files give the same bytes.

mke2fs, debugfs(8) and mmdebstrap(1) read VARIABLES. See "SOURCE_DATE_EPOCH" of the Reproducible Builds project.
"""

from __future__ import annotations

from nqrust.host.port import Host, command

EPOCH = 1_700_000_000
VARIABLES = {"SOURCE_DATE_EPOCH": str(EPOCH), "E2FSPROGS_FAKE_TIME": str(EPOCH)}


def touch(host: Host, root: str) -> None:
    """Give every file of the folder `root` the fixed time. Raises HostError."""
    host.run(command("find", root, "-exec", "touch", "-h", "-d", f"@{EPOCH}", "{}", "+", timeout=300))


def settle(host: Host, root: str, image: str) -> None:
    """Set all times in `image`, an ext4 with the folder `root`: mke2fs takes some from the host's clock. Raises HostError."""
    listed = host.run(command("find", root, "-printf", "/%P\\n", timeout=300)).stdout.splitlines()
    lines = []
    for path in ["/lost+found", *listed]:
        lines += [f'sif "{path}" {field} @{EPOCH}' for field in ("ctime", "atime", "mtime", "crtime")]
        lines += [f'sif "{path}" {field} 0' for field in ("ctime_extra", "atime_extra", "mtime_extra", "crtime_extra")]
    # debugfs runs a file of commands, and exits 0 even if they fail. Wrong times are no reason to fail.
    commands = "\n".join(lines).encode() + b"\n"
    host.run(command("debugfs", "-w", "-f", "/dev/stdin", image, input=commands, env=VARIABLES, timeout=600))

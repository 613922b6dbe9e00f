"""Disks as a killed VM leaves them: what the guest wrote last is in the journal only."""

from __future__ import annotations

import shutil
from pathlib import Path

from nqrust.host.local import LocalHost
from nqrust.host.port import command

HOST = LocalHost()


def debugfs(disk: Path, *lines: str) -> str:
    return HOST.run(command("debugfs", "-w", "-f", "-", str(disk), input="".join(f"{line}\n" for line in lines).encode())).stdout


def leave_in_journal(disk: Path, *changes: str) -> None:
    """Put the blocks that debugfs's commands `changes` would change into the journal, and leave the disk as it is."""
    after, blocks = disk.with_suffix(".after"), disk.with_suffix(".blocks")
    shutil.copyfile(disk, after)
    debugfs(after, *changes)
    told = HOST.run(command("dumpe2fs", "-h", str(disk))).stdout
    size = next(int(line.split()[-1]) for line in told.splitlines() if line.startswith("Block size:"))
    old, new = disk.read_bytes(), after.read_bytes()
    superblock = 1024 // size
    changed = [
        n for n in range(superblock + 1, len(old) // size) if old[n * size : (n + 1) * size] != new[n * size : (n + 1) * size]
    ]
    blocks.write_bytes(b"".join(new[n * size : (n + 1) * size] for n in changed))
    debugfs(disk, "journal_open", f"journal_write -b {','.join(map(str, changed))} {blocks}", "journal_close")
    assert dirty(disk)
    after.unlink()
    blocks.unlink()


def dirty(disk: Path) -> bool:
    return "needs_recovery" in HOST.run(command("dumpe2fs", "-h", str(disk))).stdout

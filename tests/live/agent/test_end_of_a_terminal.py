"""A VM's terminal ends with its VMM, on hosts without the program kill(1) too (Debian: procps)."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from nqrust.agent.scopes import launch


def test_the_terminal_ends_where_only_the_shell_can_kill(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    (function,) = [line for line in launch._LAUNCHER.splitlines() if line.startswith("end_terminal()")]
    holder = subprocess.Popen(["sleep", "60"])
    try:
        setting = f"become='/usr/bin/env -i PATH={tmp_path}' holder={holder.pid}"
        subprocess.run(["sh", "-c", f"{setting}\n{function}\nend_terminal"], check=True)
        assert holder.wait(5) == -signal.SIGTERM
    finally:
        holder.kill()

"""The scripts of `nqr completion` in real shells on a pseudo-terminal, and the manual page in a real formatter."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_vm_commands import Handler, Manager, answering

from nqrust.cli import app, manual
from nqrust.cli.completion.scripts import SCRIPTS


class ManyVms(Handler):
    def reply(self) -> tuple[int, Any]:
        status, shown = super().reply()
        if self.path.split("?")[0] == "/v1/vms" and status == 200:
            vm = shown["items"][0]
            shown = {"items": [{**vm, "name": name} for name in ("frontend", "$(touch hacked)")], "total": 2}
        return status, shown


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with answering(ManyVms, monkeypatch) as server:
        yield server


class Shell:
    """An interactive shell on a pseudo-terminal."""

    def __init__(self, argv: list[str], folder: Path, url: str) -> None:
        program = folder / "bin" / "nqr"
        program.parent.mkdir()
        self.log = folder / "typed"
        program.write_text(
            f'#!/bin/sh\ncase $1 in _complete|completion) exec {sys.executable} -m nqrust.cli "$@" ;; esac\necho "$*" >>{self.log}\n'
        )
        program.chmod(0o755)
        environ = {
            "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb" if "fish" not in argv[0] else "xterm",
            "NQR_MANAGER_URL": url, "NQR_TOKEN": "good", "LC_ALL": "C.UTF-8", "PS1": "> ", "XDG_CONFIG_HOME": str(folder),
        }  # fmt: skip
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(argv[0], argv, environ)
        self.said = ""

    def types(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def shows(self, pattern: str, seconds: float = 60.0) -> str:
        """Return the output since the last call, once it has the pattern."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.said):
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.said!r}"
            if select.select([self.fd], [], [], 0.2)[0]:
                self.said += os.read(self.fd, 65536).decode(errors="replace")
                for asked, told in (("\x1b[c", "\x1b[?62;c"), ("\x1b[0c", "\x1b[?62;c"), ("\x1b[6n", "\x1b[1;1R")):
                    if self.said.endswith(asked):  # fish asks its terminal
                        self.types(told)
        said, self.said = self.said, ""
        return said

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(nqr completion bash); echo rea''dy\n"),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -D; source <(nqr completion zsh); echo rea''dy\n"),
    "fish": (["fish", "--no-config", "-i"], "nqr completion fish | source; echo rea''dy\n"),
}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_real_shell_completes_commands_options_and_names(shell: str, served: Manager, tmp_path: Path) -> None:
    argv, start = START[shell]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed (Debian's package {argv[0]})")
    it = Shell(argv, tmp_path, served.url)
    try:
        it.shows(r"[>$%#] ?")
        it.types(start)
        it.shows(r"ready\r?\n")
        for typed in ("nqr stat\t", "nqr vm ls --wat\t", "nqr vm ls -o js\t", "nqr vm stop \t", "nqr vm ls --output=js\t"):
            it.types(f"{typed}\n")
        it.types("echo do''ne\n")
        it.shows(r"done\r?\n")
        ran = [line.strip() for line in it.log.read_text().splitlines()]
        assert ran == ["status", "vm ls --watch", "vm ls -o json", "vm stop frontend", "vm ls --output=json"]
    finally:
        it.close()
    assert not (tmp_path / "hacked").exists()


def test_roff_takes_the_page() -> None:
    programs = (["groff", "-man", "-ww", "-Tutf8", "-z"], ["mandoc", "-Tlint", "-Werror"])
    argv = next((argv for argv in programs if shutil.which(argv[0])), None)
    if argv is None:
        pytest.skip("neither groff nor mandoc is installed")
    done = subprocess.run(argv, input=manual.render(app.command()), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")

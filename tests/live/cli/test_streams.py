"""The command line behind a shell: pipes that end, streams that are closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRON = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "COLUMNS": "100", "HOME": "/nonexistent"}


def test_an_interrupted_pipe_is_quiet() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m nqrust.cli config schema | head -1"],
        capture_output=True, text=True, env=ENVIRON, timeout=60,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("{", "", 0)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_standard_stream_that_is_closed_is_no_error(closed: str, tmp_path: Path) -> None:
    log = tmp_path / "seen"
    program = (
        "import os, sys; import nqrust.cli.__main__ as cli\n"
        "def run(argv):\n"
        "    print('out'); print('err', file=sys.stderr)\n"
        "    open(sys.argv[1], 'w').write(f'{sys.stdin.isatty()} {[os.fstat(n).st_mode > 0 for n in range(3)]} {open(os.devnull).fileno() > 2}')\n"
        "cli.run = run; cli.main([])"
    )
    line = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", program, str(log)]
    done = subprocess.run(
        line, env=ENVIRON, timeout=60, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert done.returncode == 0 and log.read_text() == "False [True, True, True] True"

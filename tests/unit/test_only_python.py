"""The guard of the unit tests: a test that starts a real program fails. Python's interpreter is allowed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("program", "shell"), [(["true"], False), ("true", False), ("true", True)])
def test_starting_a_program_fails_the_test(program: list[str] | str, shell: bool) -> None:
    with pytest.raises(pytest.fail.Exception, match="a unit test starts true"):
        subprocess.run(program, shell=shell, check=False)


def test_python_may_be_started() -> None:
    assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True).stdout == b"1\n"

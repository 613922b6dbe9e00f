"""With sh: the undo script removes packages through a manager that only its own parts and the registry know."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.fakes.package_manager import DATABASE, few

from nqrust.installer.verbs.packages import registry, shell
from nqrust.installer.verbs.script.prelude import PRELUDE


def test_undo_script_uses_a_third_package_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MANAGERS, "few", few())
    database = tmp_path / "installed"
    database.write_text("base 1.0\nserver 1.0\n")
    program = 'few() { shift; for name; do sed -i "/^$name /d" ' + str(database) + "; done; }\n"
    functions = PRELUDE.partition("cd / || exit 1\n")[2].replace(shell.FUNCTIONS, "") + shell.functions() + program
    act = (
        "purge few server gone && echo purged\n"
        "if owned /etc/owned-by-few; then echo owned; fi\nif owned /etc/nobodys; then echo owned too; fi\n"
        'echo "$failed"\n'
    )
    script = (functions + act).replace(DATABASE, str(database))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "purged\nowned\n0\n", done.stderr
    assert database.read_text() == "base 1.0\n"

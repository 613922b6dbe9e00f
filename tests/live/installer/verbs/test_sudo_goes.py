"""A sudo that was brought goes, by the verb and by the scripts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.fakes.host import FakeHost

from nqrust.installer.release import bootstrap_record
from nqrust.installer.verbs.packages.apt.manager import APT
from nqrust.installer.verbs.script import prelude as script_functions


def test_installed_sudo_is_removed_despite_a_locked_root_password(tmp_path: Path) -> None:
    """Debian's sudo refuses its removal then unless SUDO_FORCE_REMOVE is "yes" (sudo.prerm). By nqr, by the undo script
    and by the last act of the bootstrap's own packages."""
    host = FakeHost.debian12()
    host.on("dpkg", "--print-architecture", answer="amd64\n")
    host.on("dpkg", "--configure", "-a", changes=True)
    host.on("dpkg-query", prefix=True, answer="installed sudo\n")
    host.on("apt-get", "purge", prefix=True, changes=True)
    APT.removing.purge(host, {"sudo"}, set())
    (purge,) = (cmd for cmd in host.commands if cmd.argv[:2] == ("apt-get", "purge"))
    assert purge.env["SUDO_FORCE_REMOVE"] == "yes"

    apt = tmp_path / "apt-get"
    apt.write_text('#!/bin/sh\ncase "$*" in *purge*) echo "$SUDO_FORCE_REMOVE" >>"$0.told" ;; esac\n')
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\nprintf installed\n")
    (tmp_path / "dpkg").write_text("#!/bin/sh\n")
    for program in (apt, query, tmp_path / "dpkg"):
        program.chmod(0o755)
    functions = script_functions.PRELUDE.partition("cd / || exit 1\n")[2]
    farewell = bootstrap_record.farewell(bootstrap_record.BootstrapRecord("apt", ("sudo",), str(tmp_path / "none")))
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for text in (f"{functions}\npurge apt sudo\n", farewell):
        (tmp_path / "apt-get.told").unlink(missing_ok=True)
        subprocess.run(["sh", "-c", text], env=path, check=True, capture_output=True)
        told = (tmp_path / "apt-get.told").read_text().split()
        assert told and set(told) == {"yes"}, text

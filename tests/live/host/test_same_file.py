"""A file that was looked at before is the one that is read, on the real host and the fake one."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from tests.live.host.test_conformance import ME, MINE, Machine, machine

from nqrust.host.errors import PathError

__all__ = ["machine"]


def test_a_file_that_was_seen_is_the_one_that_is_read(machine: Machine) -> None:
    source = machine.write("a", b"checked")
    seen = machine.host.stat(source)
    assert seen is not None
    assert machine.host.sha256(source, seen=seen) == machine.host.sha256(source)
    given: dict[str, Any] = {"mode": 0o600, "owner": ME, "group": MINE, "seen": seen}
    machine.host.copy_file(source, machine.at("copy"), **given)
    assert machine.host.read_text(machine.at("copy")) == "checked"

    def refused() -> None:
        with pytest.raises(PathError) as caught:
            machine.host.sha256(source, seen=seen)
        assert caught.value.errno in (errno.ESTALE, errno.ELOOP)
        with pytest.raises(PathError) as caught:
            machine.host.copy_file(source, machine.at("other"), **given)
        assert caught.value.errno in (errno.ESTALE, errno.ELOOP) and not machine.host.exists(machine.at("other"))

    machine.write("a", b"another")  # as long, in a new file
    refused()
    machine.host.remove(source)
    machine.host.symlink(machine.at("copy"), source)
    refused()

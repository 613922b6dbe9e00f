"""The install in the clone gets the same flags, and the engine of this install receives its lines."""

from __future__ import annotations

import inspect
import io
import json
from typing import Any, get_args

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.effects.a_bench import Bench, bench

from nqrust.cli.install.flags import with_flags
from nqrust.cli.install.rehearsing import install_arguments
from nqrust.installer import fingerprint
from nqrust.installer.fingerprint.model import Fingerprint
from nqrust.installer.rehearsal import boot, inside
from nqrust.installer.rehearsal.spec import CloneSpec, Uplink, Work

__all__ = ["bench"]
CHOICES = {"on_failure": "keep", "log_level": "error", "output": "json"}


def test_flags_are_written_again_as_they_were_given() -> None:
    flags = {
        "mode": "production", "ui": False, "bridge_name": "br7", "config": "c.yaml", "rehearse": True, "output": "text",
        "ignore_preflight": ["NQR-PRE-006"], "install_dir": None, "allow_downgrade": True,
    }  # fmt: skip
    found = install_arguments({**flags, "with_ui": False})
    assert found[:4] == ("install", "--non-interactive", "--output", "json")
    assert set(found[4:]) == {
        "--mode=production", "--no-ui", "--bridge-name=br7", "--config=c.yaml", "--ignore-preflight=NQR-PRE-006",
        "--allow-downgrade",
    }  # fmt: skip


OF_THE_REHEARSAL = {"rehearse", "report", "output", "non_interactive", "dry_run"}
"""Options that the rehearsal itself carries out, or refuses."""


def test_every_option_of_an_install_reaches_the_install_in_the_clone() -> None:
    parameters = inspect.signature(with_flags("install", settings=True)(lambda flags: None)).parameters
    left_out, plain = set(), install_arguments({})
    for name, parameter in parameters.items():
        kind, option = get_args(parameter.annotation)
        values = {bool | None: (True, False), list[str] | None: (["X"],)}.get(kind, (CHOICES.get(name, "X"),))
        shown = [option.default, *option.param_decls][-1].split("/")  # typer keeps the first name there
        for value, flag in zip(values, shown, strict=True):
            told = install_arguments({name: value})[len(plain) :]
            left_out |= set() if told else {name}
            assert not told or told[0].partition("=")[0] == flag, told
    assert left_out == OF_THE_REHEARSAL


@pytest.mark.parametrize(
    ("options", "told"),
    [(("--dry-run",), "Choose one of --rehearse and --dry-run"), (("--interactive",), "Leave --interactive out")],
)
def test_an_option_without_an_effect_on_a_rehearsal_is_refused(bench: Bench, options: tuple[str, ...], told: str) -> None:
    assert bench.nqr("install", "--rehearse", *options) == 2
    assert "NQR-USE-014" in bench.err and told in bench.err


class Pipe(io.BytesIO):
    def readline(self, *more: Any) -> bytes:
        self.answered = True
        return b"go\n"


def test_the_clone_tells_what_the_install_said_and_what_became_different(monkeypatch: Any) -> None:
    host, pipe = FakeHost.debian12(), Pipe()
    taken = [
        Fingerprint(1.0, {"users": {}, "files": {}}),
        Fingerprint(2.0, {"users": {"nqrust": ["998"]}, "files": {"/etc/x": ["file"]}}),
    ]
    monkeypatch.setattr(fingerprint, "take", lambda host: taken.pop(0))
    said = '{"type": "summary", "exit_code": 0}\nWarning: not JSON\n{"type": "clone_done", "code": 9}\n'
    host.on("/usr/bin/python3", prefix=True, answer=said)
    inside.run({"argv": ["/usr/bin/python3", "x"], "environment": {}, "cwd": "/", "limit": 5.0}, pipe, host)
    told = [json.loads(line) for line in pipe.getvalue().splitlines()]
    assert [one["type"] for one in told] == [
        "clone_ready", "summary", "clone_output", "clone_output", "clone_measured", "clone_done",
    ]  # fmt: skip
    assert told[-2]["key"] == "nqrust" and told[-1]["code"] == 0


def test_only_what_the_rehearsal_wants_is_started() -> None:
    spec = CloneSpec(
        1, "/s", 0, True, True, "h", (), Uplink(), "", (), "", ("networking.service",), ("dbus.socket",), "debian", ("python3",), Work(()),
    )  # fmt: skip
    units = boot.units(spec)
    assert "multi-user" not in "".join(units.values()) and "basic.target" not in "".join(units.values())
    assert f"Wants={boot.SERVICE} dbus.socket" in units[boot.TARGET]

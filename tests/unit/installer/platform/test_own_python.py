"""The Python of an installation on a host with an older one: copied first, removed last."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS
from tests.unit.installer.verbs.lifecycle import planned, round_trip

from nqrust.host.port import Command
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.plan import Plan
from nqrust.installer.phases import deps
from nqrust.installer.platform.own_python import COMPLETE, OwnPython
from nqrust.installer.platform.venv import PythonEnvironment
from nqrust.installer.release import interpreter as module
from nqrust.installer.release.interpreter import BROUGHT, Interpreter, interpreter
from nqrust.installer.settings.model import Settings

SOURCE, HOME = "/var/cache/nqrust-microvm/python", "/opt/nqrust-microvm/python/3.12.16"
STEP = OwnPython(SOURCE, HOME, "python3.12")


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    for name in (BROUGHT, "bin/python3.12", "lib/python3.12/os.py"):
        host.put(f"{SOURCE}/{name}", "3.12.16\n")
    host.put("/opt/nqrust-microvm/python/keep", "")

    def copy(host: FakeHost, cmd: Command) -> None:
        for name in (BROUGHT, "bin/python3.12", "lib/python3.12/os.py"):
            host.put(f"{cmd.argv[-1]}/{name}", host.read_text(f"{cmd.argv[-2]}/{name}"))

    host.on("cp", "-R", prefix=True, changes=True, answer=copy)
    host.on(f"{HOME}/bin/python3.12", prefix=True, answer="")
    return host


def test_python_is_copied_and_removed(host: FakeHost) -> None:
    round_trip(host, STEP)


def test_interrupted_copy_is_made_again(host: FakeHost) -> None:
    host.put(f"{HOME}/{BROUGHT}", "3.12.16\n")
    host.put(f"{HOME}/bin/python3.12", "half")
    assert planned(host, STEP) == (f"+ {HOME}",)
    STEP.apply(host)
    assert host.exists(f"{HOME}/{COMPLETE}") and host.read_text(f"{HOME}/bin/python3.12") == "3.12.16\n"


@pytest.mark.parametrize("source", ["/var/cache/gone", HOME])
def test_damaged_copy_without_a_source_names_the_bootstrap(host: FakeHost, source: str) -> None:
    with pytest.raises(StepFailed) as caught:
        replace(STEP, source=source).apply(host)
    assert caught.value.code == "NQR-DEP-108" and "install.sh" in caught.value.cure


@pytest.mark.parametrize(("prefix", "brought", "expected"), [
    ("/usr", False, Interpreter("/usr/bin/python3.12", "3.12.16", "/venv/bin/python")),
    (SOURCE, True, Interpreter(f"{HOME}/bin/python3.12", "3.12.16", "/venv/bin/python", HOME, SOURCE)),
    (HOME, True, Interpreter(f"{HOME}/bin/python3.12", "3.12.16", "/venv/bin/python", HOME, HOME)),
])  # fmt: skip
def test_services_run_on_the_copy(monkeypatch: pytest.MonkeyPatch, prefix: str, brought: bool, expected: Interpreter) -> None:
    monkeypatch.setattr(sys, "_base_executable", f"{prefix}/bin/python3.12", raising=False)
    monkeypatch.setattr(sys, "executable", "/venv/bin/python")
    monkeypatch.setattr(module.platform, "python_version", lambda: "3.12.16")
    monkeypatch.setattr(module.os.path, "realpath", lambda path: path)
    monkeypatch.setattr(module.os.path, "exists", lambda path: brought and path == f"{prefix}/{BROUGHT}")
    assert interpreter("/opt/nqrust-microvm") == expected


@pytest.mark.parametrize("own", [True, False])
def test_the_python_of_a_release_before_stays_for_a_rollback(own: bool) -> None:
    """With a newer Python, and on a system that has one by now."""
    python = Interpreter(f"{HOME}/bin/python3.12", "3.12.16", "/x", *((HOME, SOURCE) if own else ()))
    plan = Plan((deps.plan(Context(Settings(), fit(), SECRETS, ReleaseFiles(RELEASE, "/x"), python)),))
    former = OwnPython(SOURCE, "/opt/nqrust-microvm/python/3.11.9", "python3.11")
    assert plan.asks_for(former.id) and plan.asks_for("directory:/opt/nqrust-microvm/python")


@pytest.mark.parametrize("own", [True, False])
def test_copy_comes_first_so_that_an_uninstall_removes_it_last(own: bool) -> None:
    python = Interpreter(f"{HOME}/bin/python3.12", "3.12.16", "/x", *((HOME, SOURCE) if own else ()))
    steps = deps.plan(Context(Settings(), fit(), SECRETS, ReleaseFiles(RELEASE, "/x"), python)).steps
    kinds = [step.kind for step in steps]
    assert ("own-python" in kinds) == own
    assert not own or set(kinds[: kinds.index("own-python")]) == {"directory"}
    environment = next(step for step in steps if isinstance(step, PythonEnvironment))
    assert environment.python == f"{HOME}/bin/python3.12"
    assert len({step.id for step in steps}) == len(steps)

"""nqr registers images that it builds with the running manager. A rollback removes them from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Needed, Satisfied, Step
from nqrust.installer.engine.verb import Kept, Reverted, UndoContext
from nqrust.installer.platform.image import BuiltImage
from nqrust.installer.platform.registered_images import RegisteredImages, Registry
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.registry import revert
from nqrust.installer.verbs.resource.undo import undo_resource

URL = "http://127.0.0.1:18080"
BOX = "container-runtime"
REGISTRY = Registry(URL, "/etc/nqrust-microvm/cli-token")
STEP = RegisteredImages(REGISTRY, "/srv/images", ("tiny", BOX), "services")


def manifest(name: str, built: int = 1) -> dict[str, Any]:
    blob = {"file": "x", "size": built, "sha256": f"{built:064x}"}
    return {"name": name, "rootfs": blob, "kernel": blob, "created_at": "2026-01-01T00:00:00Z"}


class Manager:
    """Rows by name. A scan updates them from disk, like the real one."""

    def __init__(self, host: FakeHost, *names: str, scan: int = 200) -> None:
        self.host, self.scans, self.busy = host, 0, 0
        self.rows = {name: manifest(name) for name in names}
        self.state = "ready"
        host.put(REGISTRY.token_file, "nqr_secret\n")
        for name in STEP.names:
            host.pages[REGISTRY.image(name)] = lambda headers, name=name: self.get(headers, name)
            host.pages[f"DELETE {REGISTRY.image(name)}"] = lambda headers, name=name: self.delete(name)
        host.pages[f"POST {URL}/v1/images/scan"] = lambda headers: self.scan(headers, scan)

    def get(self, headers: dict[str, Any], name: str) -> tuple[int, str]:
        assert headers["Authorization"].reveal() == "Bearer nqr_secret"
        if name not in self.rows:
            return 404, '{"detail": "There is no such image."}'
        return 200, json.dumps({"name": name, "state": self.state, "error": "", "manifest": self.rows[name]})

    def scan(self, headers: dict[str, Any], status: int) -> tuple[int, str]:
        assert headers["Authorization"].reveal() == "Bearer nqr_secret"
        self.scans += 1
        if self.busy:
            self.busy -= 1
            return 503, '{"detail": "The database does not answer."}'
        if status == 200:
            self.rows = {name: found for name in STEP.names if (found := on_disk(self.host, name))}
        return status, '{"detail": "No."}'

    def delete(self, name: str) -> tuple[int, str]:
        return (204, "") if self.rows.pop(name, None) else (404, "")


def on_disk(host: FakeHost, name: str) -> dict[str, Any] | None:
    path = f"/srv/images/{name}/image.json"
    return json.loads(host.read_text(path)) if host.exists(path) else None


def host_with(**built: int) -> FakeHost:
    host = FakeHost.debian12()
    for name, number in built.items():
        name = name.replace("_", "-")
        host.put(f"/srv/images/{name}/image.json", json.dumps(manifest(name, number)))
    return host


def test_an_image_that_the_manager_does_not_know_is_registered_once() -> None:
    host = host_with(tiny=1, container_runtime=1)
    manager = Manager(host, "tiny")
    assert STEP.inspect(host) == Needed((f"+ image {BOX} in the manager's registry",))
    STEP.apply(host)
    STEP.verify(host)
    assert STEP.inspect(host) == Satisfied() and manager.scans == 1


def test_an_image_that_was_built_again_is_checked_again() -> None:
    host = host_with(tiny=2, container_runtime=1)
    manager = Manager(host, "tiny", BOX)
    assert STEP.inspect(host) == Needed(("+ image tiny in the manager's registry",))
    STEP.apply(host)
    STEP.verify(host)
    assert manager.rows["tiny"] == manifest("tiny", 2)


def test_an_image_that_is_still_to_be_built_is_in_the_plan() -> None:
    host = host_with(tiny=1)
    Manager(host, "tiny")
    assert isinstance(STEP.inspect(host), Needed)


def test_a_manager_that_does_not_run_yet_registers_them_itself() -> None:
    host = host_with(tiny=1, container_runtime=1)
    assert isinstance(STEP.inspect(host), Satisfied), "no token: never started"
    host.put(REGISTRY.token_file, "nqr_secret\n")
    assert isinstance(STEP.inspect(host), Satisfied), "nothing answers"


def test_a_manager_whose_database_comes_back_is_waited_for() -> None:
    host = host_with(tiny=1, container_runtime=1)
    manager = Manager(host)
    manager.busy = 3
    STEP.apply(host)
    assert manager.scans == 4 and isinstance(STEP.inspect(host), Satisfied)


def test_a_refusal_and_a_damaged_image_are_told_with_what_the_manager_said() -> None:
    host = host_with(tiny=1, container_runtime=1)
    manager = Manager(host, "tiny", scan=403)
    with pytest.raises(StepFailed, match=r"NQR-IMG-130: .*403 \(No\)"):
        STEP.apply(host)
    manager.state = "corrupt"
    with pytest.raises(StepFailed, match=r"NQR-IMG-131: .*tiny.*corrupt"):
        STEP.verify(host)


def test_undo_removes_the_image_record_after_its_folder() -> None:
    host = host_with(tiny=1)
    manager = Manager(host, "tiny", BOX)
    row, whole, _ = BuiltImage("/srv/images", "/agent", registry=REGISTRY, recipe=BOX).prepare(host).undo
    assert (row.verb, row.args) == ("resource", {"url": REGISTRY.image(BOX), "token_file": REGISTRY.token_file})
    assert whole.args["path"] == f"/srv/images/{BOX}", "undone before the row, because undoing goes backwards"
    context = UndoContext(host, Originals(host, "/var/lib/originals"))
    assert revert(context, row) == Reverted() and BOX not in manager.rows
    assert revert(context, row) == Reverted(), "again: it is gone"
    host.pages[f"DELETE {REGISTRY.image(BOX)}"] = (409, '{"detail": "Image container-runtime is used by 1 VM."}')
    kept = revert(context, row)
    assert isinstance(kept, Kept) and "used by 1 VM" in kept.why
    host.pages.clear()
    assert isinstance(revert(context, row), Reverted), "the manager is gone already"
    assert isinstance(revert(context, undo_resource(URL, "/nowhere")), Reverted)


def steps(mode: str, form: str = "bundled", only: str | None = None, former: tuple[Settings, ...] = ()) -> list[tuple[str, Step]]:
    context = Context(
        settings=Settings.model_validate({"mode": mode, "components": {"container_runtime": True}}),
        facts=fit(),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE.model_copy(update={"form": form}), "/var/cache/x"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
        former=former,
    )
    return [(phase.name, step) for phase in planner.plan(context, only).phases for step in phase.steps]


def test_images_are_registered_after_services_start_or_by_the_build_phase_alone() -> None:
    """Before that the manager may be ill or not yet at its port, and another program would get its token."""
    for only, phase in ((None, "services"), ("build", "build")):
        found = steps("production", only=only)
        asked = [(name, step.names) for name, step in found if isinstance(step, RegisteredImages)]
        assert asked == [(phase, STEP.names)] and isinstance(found[-1][1], RegisteredImages)
    assert [type(step).__name__ for _, step in steps("production", only="build")].count("BuiltImage") == 2


def test_single_phase_stops_no_service_that_a_later_phase_restarts() -> None:
    """The whole run makes room on another bridge's network; `phase run network` does not."""
    was = Settings.model_validate({"network": {"bridge_name": "vmbr1"}})
    whole, alone = ([step.kind for _, step in steps("production", only=only, former=(was,))] for only in (None, "network"))
    assert "makes-way" in whole and "makes-way" not in alone and "bridge" in alone


@pytest.mark.parametrize(("mode", "form"), [("agent", "bundled"), ("production", "upstream")])
def test_images_are_not_registered_without_a_bundled_manager(mode: str, form: str) -> None:
    found = [step for _, step in steps(mode, form)]
    assert not any(isinstance(step, RegisteredImages) for step in found)
    assert all(step.registry is None for step in found if isinstance(step, BuiltImage))

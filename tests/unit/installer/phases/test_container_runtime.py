"""nqr obeys `--with-container-runtime`, or refuses it with a cure before the first change. It never ignores it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.host.facts.model import Facts, Os
from nqrust.image import container
from nqrust.image.errors import ImageError
from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Step
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.platform.image import BuiltImage
from nqrust.installer.preflight.images import checks
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.packages.step import Packages

ROCKY = fit(os=Os("rocky", "9.3", ("rhel", "centos", "fedora")))


def asked(yes: bool = True, **more: Any) -> Settings:
    return Settings.model_validate({"components": {"container_runtime": yes}, **more})


def steps(settings: Settings, facts: Facts, images: Any = RELEASE.images) -> list[Step]:
    context = Context(
        settings=settings, facts=facts, secrets=SECRETS,
        files=ReleaseFiles(RELEASE.model_copy(update={"images": images}), "/var/cache/x"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
    )  # fmt: skip
    return [step for phase in planner.plan(context).phases for step in phase.steps]


def images_of(found: list[Step]) -> list[str]:
    return [step.recipe for step in found if isinstance(step, BuiltImage)]


def packages_of(found: list[Step]) -> set[str]:
    return {name for step in found if isinstance(step, Packages) for name in step.names}


@pytest.mark.parametrize("os", [Os("debian", "12"), Os("debian", "11"), Os("ubuntu", "22.04", ("debian",))], ids=lambda os: os.id)
def test_container_runtime_is_built_only_on_request(os: Os) -> None:
    with_it, without = steps(asked(), fit(os=os)), steps(asked(False), fit(os=os))
    assert images_of(with_it) == ["tiny", "container-runtime"] and images_of(without) == ["tiny"]
    assert packages_of(with_it) - packages_of(without) == {"mmdebstrap", "libdpkg-perl"}
    assert list(checks(asked(), fit(os=os))) == []


def test_a_release_that_lists_no_images_does_not_make_the_flag_void() -> None:
    assert images_of(steps(asked(), fit(), images=())) == ["container-runtime"]


def test_preflight_refuses_a_container_runtime_that_cannot_be_built() -> None:
    (found,) = checks(asked(), ROCKY)
    assert (found.severity.value, found.code) == ("error", "NQR-PRE-032")
    assert "Red Hat" in found.what and "--no-container-runtime" in found.cure
    assert list(checks(asked(False), ROCKY)) == []
    assert images_of(steps(asked(), ROCKY)) == ["tiny", "container-runtime"], "overruled: the step will say what it lacks"


def test_uninstall_keeps_the_container_image_and_removes_a_partial_build() -> None:
    whole, half = BuiltImage("/srv/images", "/agent", recipe="container-runtime").prepare(FakeHost.debian12()).undo
    assert (whole.args["path"], whole.retain) == ("/srv/images/container-runtime", Retain.data)
    assert half.args["path"] == "/srv/images/.container-runtime.building" and half.half and not whole.half


def test_a_failed_build_keeps_its_code_and_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ImageError("NQR-IMG-020", "There is no mmdebstrap.", "Install it.")

    monkeypatch.setattr(container, "build", fail)
    host = FakeHost.debian12()
    host.put_directory("/var/cache")
    with pytest.raises(StepFailed) as caught:
        BuiltImage("/srv/images", "/agent", recipe="container-runtime").apply(host)
    assert (caught.value.code, caught.value.cure) == ("NQR-IMG-020", "Install it.")

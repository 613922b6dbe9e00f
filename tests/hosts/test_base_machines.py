"""The main job on every base machine of the registry (tests/hosts/bases), each with and without systemd where that makes
sense. The machines of each run have theirs in test_plain.py and test_production.py, which share the install."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.hosts import main_job, warm
from tests.hosts.bases import MACHINES, BaseMachine, lived_in
from tests.hosts.main_job import Job

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

RUNS = [(kind, init) for kind in MACHINES for init in kind.inits if init != kind.every_run]


@pytest.fixture(scope="module", params=RUNS, ids=[f"{kind.name}-{init}" for kind, init in RUNS])
def job(request: pytest.FixtureRequest, tell: Callable[[str], None]) -> Iterator[Job]:
    kind: BaseMachine
    kind, init = request.param
    with lived_in(kind, init) as lived:
        made = main_job.begin(lived, first=warm.fill)
        yield made
        tell(made.line())


def test_install_leaves_the_neighbour_service_unchanged(job: Job) -> None:
    assert job.result is not None and job.result.code == 0
    main_job.neighbour_is_untouched(job)


def test_a_vm_runs_and_reaches_the_outside(job: Job) -> None:
    main_job.a_vm_runs_and_reaches_the_outside(job)


def test_reloading_the_neighbour_breaks_neither_service(job: Job) -> None:
    main_job.the_neighbour_is_reloaded(job)


def test_the_same_command_again_changes_nothing(job: Job) -> None:
    main_job.again_changes_nothing(job)


def test_component_is_switched_off_and_on(job: Job) -> None:
    main_job.a_component_goes_and_comes(job)


def test_reboot_brings_back_the_neighbour_and_the_vm_network(job: Job) -> None:
    main_job.a_reboot_brings_both_back(job)


def test_uninstall_keeps_data(job: Job) -> None:
    main_job.uninstall_keeps_data(job)


def test_purge_after_uninstall_leaves_nothing(job: Job) -> None:
    main_job.purge_later_leaves_nothing(job)

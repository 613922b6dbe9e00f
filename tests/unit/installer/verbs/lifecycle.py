"""Requirements for every step: planned, applied, verified, satisfied, and reverted to the earlier machine."""

from __future__ import annotations

import json

from tests.fakes.host import FakeHost

from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Needed, Prepared, Satisfied, Step
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Outcome, UndoContext
from nqrust.installer.verbs import registry as verbs
from nqrust.installer.verbs.registry import VERBS

ORIGINALS = "/var/lib/originals"


def planned(host: FakeHost, step: Step) -> tuple[str, ...]:
    """Return the diff of a step that has work to do. The inspection must change nothing."""
    host.mutations.clear()
    before = host.state()
    found = step.inspect(host)
    assert host.state() == before and host.mutations == [], "inspect changed the machine"
    assert isinstance(found, Needed), found
    return found.diff


def applied(host: FakeHost, step: Step) -> tuple[Prepared, list[Undo]]:
    """Apply a step like the runner. Afterwards it is satisfied, and a second inspection writes nothing."""
    planned(host, step)
    prepared = step.prepare(host)
    assert host.mutations == [], "prepare changed the machine"
    kept = [VERBS.capture(Originals(host, ORIGINALS), undo) for undo in prepared.undo]
    records = [Undo.from_json(json.loads(json.dumps(undo.to_json()))) for undo in kept]
    step.apply(host)
    step.verify(host)
    host.mutations.clear()
    assert isinstance(step.inspect(host), Satisfied)
    assert host.mutations == [], "inspect changed the machine"
    return prepared, records


def reverted(host: FakeHost, records: list[Undo]) -> list[Outcome]:
    context = UndoContext(host, Originals(host, ORIGINALS))
    return [verbs.revert(context, record) for record in reversed(records)]


def round_trip(host: FakeHost, step: Step) -> Prepared:
    """Apply and revert. The machine is the same as before."""
    before = host.state(ignore=(ORIGINALS,))
    prepared, records = applied(host, step)
    reverted(host, records)
    assert host.state(ignore=(ORIGINALS,)) == before
    return prepared

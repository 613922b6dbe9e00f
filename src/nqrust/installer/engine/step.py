"""A step: the unit of inspection, application and reversion. Product-blind.

The runner's loop, per step:

    inspect -> prepare -> journal `begin` (fsync) -> apply -> verify -> journal `done` (fsync)

`inspect` and `prepare` only read. `apply` may be interrupted at any instant: afterwards `inspect` must return Needed (so that
it can be applied again) or Satisfied. `prepare` returns the way back as data. The engine stores the originals that the undo
records name before it writes `begin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol, runtime_checkable

from nqrust.host.port import Host
from nqrust.installer.engine.undo_record import Undo


@dataclass(frozen=True)
class Satisfied:
    """Nothing to do. `note`: an observation worth reporting."""

    note: str = ""


@dataclass(frozen=True)
class Needed:
    """Work to do. `diff`: lines for people (unified diff for files, `+ package` for packages). Never a secret."""

    diff: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conflict:
    """Something that belongs to others is in the way, so the step does nothing. `why` and `cure` are a sentence each."""

    code: str
    why: str
    cure: str


Inspection = Satisfied | Needed | Conflict


class Origin(str, Enum):
    """Who made a thing. Adopted things are never removed."""

    created = "created"
    adopted = "adopted"  # existed before nqr and fits unchanged
    modified = "modified"  # existed before nqr, changed by nqr, original stored


@dataclass(frozen=True)
class Prepared:
    """Content of the `begin` record: the origin, and the undo records in the order of the changes (reverting runs backwards)."""

    origin: Origin
    undo: tuple[Undo, ...]


@runtime_checkable
class Step(Protocol):
    """A step is a frozen dataclass. `id` is unique in a plan and the same in every run; `kind` never changes."""

    kind: ClassVar[str]

    @property
    def id(self) -> str: ...

    def describe(self) -> str:
        """Return one line in the imperative: "create bridge fcbr0 with 10.0.0.1/24". Never a secret."""
        ...

    def inspect(self, host: Host) -> Inspection: ...

    def prepare(self, host: Host) -> Prepared:
        """Return the undo records. Called only after `inspect` returned Needed."""
        ...

    def apply(self, host: Host) -> None:
        """Make the change. Raises NqrError or HostError; the runner adds the step's name and a cure to a HostError."""
        ...

    def verify(self, host: Host) -> None:
        """Check the result; raise StepFailed if it is wrong. Usually: inspect again."""
        ...


def verify_by_inspection(step: Step, host: Host) -> None:
    """Verify by a second inspection, which must find nothing to do. Raises StepFailed NQR-ENG-002."""
    from nqrust.installer.engine.errors import StepFailed

    found = step.inspect(host)
    if isinstance(found, Satisfied):
        return
    left = found.why if isinstance(found, Conflict) else "; ".join(found.diff[:5]) or "it still wants the same change"
    raise StepFailed(
        "NQR-ENG-002",
        f"After “{step.describe()}” the host is not as asked: {left}.",
        "Something else may be changing the same thing at the same time: stop it, then run the same command again.",
    )

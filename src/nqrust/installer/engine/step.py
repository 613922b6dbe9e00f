"""A step: the unit of inspection, application and reversion. Product-blind.

The runner's loop, per step:

    inspect -> prepare -> journal `begin` (fsync) -> apply -> verify -> journal `done` (fsync)

`inspect` and `prepare` read only. `apply` may be cut off at any instant: what it leaves must either be what `inspect`
calls Needed (so it can be applied again) or Satisfied. `prepare` tells, as data, how to go back; the engine keeps the
originals that the undo records name before `begin` is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol, runtime_checkable

from nqrust.host.port import Host
from nqrust.installer.engine.undo_record import Undo


@dataclass(frozen=True)
class Satisfied:
    """Nothing to do. `note` says what was found, where that is worth telling."""

    note: str = ""


@dataclass(frozen=True)
class Needed:
    """Work to do. `diff`: lines for people (unified diff for files, `+ package` for packages). Never a secret."""

    diff: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conflict:
    """Something of another's is in the way, so nothing is done: `why` and `cure` are a sentence each."""

    code: str
    why: str
    cure: str


Inspection = Satisfied | Needed | Conflict


class Origin(str, Enum):
    """Whose a thing is. Adopted things are never removed."""

    created = "created"
    adopted = "adopted"  # was there before us and fits as it is
    modified = "modified"  # was there before us, changed by us, original kept


@dataclass(frozen=True)
class Prepared:
    """What `begin` records: whose the thing is, and the undo records in the order in which they were earned (reverting
    goes backwards)."""

    origin: Origin
    undo: tuple[Undo, ...]


@runtime_checkable
class Step(Protocol):
    """A frozen dataclass. `id` is unique in a plan and stable from run to run, `kind` is stable for ever."""

    kind: ClassVar[str]

    @property
    def id(self) -> str: ...

    def describe(self) -> str:
        """One line in the imperative: "create bridge fcbr0 with 10.0.0.1/24". Never a secret."""
        ...

    def inspect(self, host: Host) -> Inspection: ...

    def prepare(self, host: Host) -> Prepared:
        """Called only after `inspect` gave Needed."""
        ...

    def apply(self, host: Host) -> None:
        """Raises NqrError or HostError; the runner wraps the latter with the step's name and a cure."""
        ...

    def verify(self, host: Host) -> None:
        """What was asked is now so; raises StepFailed if not. Usually: inspect again."""
        ...


def verify_by_inspection(step: Step, host: Host) -> None:
    """The usual `verify`: inspecting again finds nothing left to do. Raises StepFailed NQR-ENG-002."""
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

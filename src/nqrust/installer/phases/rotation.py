"""The parts of `nqr rotate`: what each one changes in the secrets, and the steps that bring everything over to them.

The steps that write files are those of an install, so that a later `nqr install` finishes an interrupted rotation too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.context import Context, Secrets
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.phases.order import ROTATED
from nqrust.installer.platform.rotation import HostsFollow, RotationApi
from nqrust.installer.resources.env import manager_base


@dataclass(frozen=True)
class Turn:
    """One part, carried out as one run. `change`: returns the new secrets; a repeated turn gets those that are stored.
    `done`: the line that tells people about it."""

    name: str
    title: str
    steps: Callable[[Context, float], tuple[Step, ...]]
    done: str
    change: Callable[[Secrets], Secrets] = lambda secrets: secrets

    def plan(self, context: Context, seconds: float) -> PhasePlan:
        """Return the steps. `seconds`: how long to wait for the hosts."""
        return PhasePlan(self.name, self.title, self.steps(context, seconds))


def turns(names: tuple[str, ...]) -> tuple[Turn, ...]:
    """Return the turns for these names, in order."""
    return tuple(turn for name in ROTATED if name in names for turn in _TURNS[name])


def _api(context: Context) -> RotationApi:
    return RotationApi(manager_base(context), context.layout.cli_token_file)


def manager_answers(context: Context, host: Host) -> None:
    """Raise HostError unless the manager of this host answers."""
    status, _ = host.http_get(f"{manager_base(context)}/health")
    if status != 200:
        raise HostError(f"it answered {status}")


def hosts_left(context: Context, host: Host) -> tuple[str, ...]:
    """Return the names of the hosts that still have former secrets."""
    return _api(context).behind(host)


def _certificates(context: Context, seconds: float) -> tuple[Step, ...]:
    return (
        HostsFollow(
            "certificates",
            _api(context),
            "certificate",
            "replace the certificates of the manager, the web UI and the agents",
            begins=True,
            seconds=seconds,
            progress=context.progress,
        ),
    )


_TURNS: dict[str, tuple[Turn, ...]] = {
    "certificates": (
        Turn(
            "certificates",
            "Certificates",
            _certificates,
            "The manager, the web UI and the agents have new certificates.",
        ),
    ),
}

"""The parts of `nqr rotate`: what each one changes in the secrets, and the steps that bring everything over to them.

The steps that write files are those of an install, so that a later `nqr install` finishes an interrupted rotation too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nqrust.contract import credentials
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer import secret_store
from nqrust.installer.context import Context, Secrets
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.phases import config, database
from nqrust.installer.phases.order import ROTATED
from nqrust.installer.platform.rotation import HostsFollow, Kind, RotationApi
from nqrust.installer.resources.env import manager_base
from nqrust.installer.verbs.postgres.login import TcpLogin
from nqrust.installer.verbs.postgres.role import Role
from nqrust.tls import pinning


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


def turns(names: tuple[str, ...], interrupted: str = "") -> tuple[Turn, ...]:
    """Return the turns for these names, in order. A new authority signs new certificates, so they need no turn of their own.

    `interrupted`: the turn in which the run before was killed. The secrets show its stage, except of the last one.
    """
    if "authority" in names:
        names = tuple(name for name in names if name != "certificates")
    found = tuple(turn for name in ROTATED if name in names for turn in _TURNS[name])
    return tuple(turn for turn in found if interrupted != LAST or turn.name not in _EARLIER)


def _api(context: Context) -> RotationApi:
    return RotationApi(manager_base(context), context.layout.cli_token_file)


def manager_answers(context: Context, host: Host) -> None:
    """Raise HostError unless the manager of this host answers and knows rotations."""
    _api(context).answers(host)


def hosts_left(context: Context, host: Host) -> tuple[str, ...]:
    """Return the names of the hosts that still have former secrets."""
    return _api(context).behind(host)


def _all_hosts(context: Context, name: str, needs: Kind, text: str, seconds: float) -> Step:
    """Return the step that asks all hosts for a new secret, and waits until they have it."""
    api = _api(context)
    return HostsFollow(name, api, needs, text, begins=True, seconds=seconds, progress=context.progress)


def _certificates(context: Context, seconds: float) -> tuple[Step, ...]:
    text = "replace the certificates of the manager, the web UI and the agents"
    return (_all_hosts(context, "certificates", "certificate", text, seconds),)


def _new_password(secrets: Secrets) -> Secrets:
    return replace(secrets, db_password=Secret(secret_store.password()))


def _database(context: Context, seconds: float) -> tuple[Step, ...]:
    """The file comes before the role: the manager tries its password, then the former one."""
    role = [step for step in database.plan(context).steps if step.kind in (Role.kind, TcpLogin.kind)]
    return (*database.store_secrets(context), *config.database_password(context), *role)


def _new_tokens(secrets: Secrets) -> Secrets:
    return replace(secrets, cli_token=Secret(credentials.new_token()), join_token=Secret(credentials.new_token()))


def _tokens(context: Context, seconds: float) -> tuple[Step, ...]:
    return (
        *database.store_secrets(context),
        *config.tokens(context),
        _all_hosts(context, "tokens", "tokens", "replace the tokens between the manager and the agents", seconds),
    )


def _introduced(secrets: Secrets) -> Secrets:
    if secrets.next_authority or secrets.former_authority:
        return secrets  # an interrupted rotation continues
    certificate, key = secret_store.new_authority()
    return replace(secrets, next_authority=certificate, next_authority_key=key)


def _switched(secrets: Secrets) -> Secrets:
    if not secrets.next_authority:
        return secrets
    return replace(
        secrets,
        authority=secrets.next_authority,
        authority_key=secrets.next_authority_key,
        next_authority="",
        next_authority_key=Secret(""),
        former_authority=secrets.authority,
    )


def _retired(secrets: Secrets) -> Secrets:
    return replace(secrets, former_authority="")


def _authority(name: str, needs: Kind, text: str) -> Callable[[Context, float], tuple[Step, ...]]:
    """Return the steps of a stage: write the files, then wait until manager and hosts have followed."""

    def steps(context: Context, seconds: float) -> tuple[Step, ...]:
        secrets = context.secrets
        return (
            *database.store_secrets(context),
            *config.authority(context),
            HostsFollow(
                name,
                _api(context),
                needs,
                text,
                trusted=pinning.fingerprint(secrets.trusted),
                signer=pinning.fingerprint(secrets.authority),
                seconds=seconds,
                progress=context.progress,
            ),
        )

    return steps


LAST = "retire"
"""The turn that ends the rotation of the authority."""
_EARLIER = ("introduce", "switch")
_TURNS: dict[str, tuple[Turn, ...]] = {
    "database": (
        Turn(
            "database",
            "Database password",
            _database,
            "The database and the manager have a new password.",
            _new_password,
        ),
    ),
    "tokens": (
        Turn(
            "tokens",
            "Tokens",
            _tokens,
            "The manager, the agents and this nqr have new tokens. API tokens of users stay.",
            _new_tokens,
        ),
    ),
    "authority": (
        Turn(
            "introduce",
            "New authority",
            _authority("authority-known", "authority", "wait until the hosts trust the new authority too"),
            "The manager and the hosts trust a new authority, besides the former one.",
            _introduced,
        ),
        Turn(
            "switch",
            "New certificates",
            _authority("authority-used", "certificate", "wait until the hosts have certificates of the new authority"),
            "The new authority has signed the certificates of the manager, the web UI and the hosts.",
            _switched,
        ),
        Turn(
            "retire",
            "Former authority",
            _authority("authority-alone", "authority", "wait until the hosts trust the new authority only"),
            "Nobody trusts the former authority any more.",
            _retired,
        ),
    ),
    "certificates": (
        Turn(
            "certificates",
            "Certificates",
            _certificates,
            "The manager, the web UI and the agents have new certificates.",
        ),
    ),
}

"""Start, stop and show the services of this host: after a reboot of a machine without systemd, and before its shutdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nqrust.contract import paths
from nqrust.contract.names import SCOPE_PREFIX
from nqrust.host.errors import HostError
from nqrust.host.facts.container import supervisor as supervisor_of
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import NqrError, UsageError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.operations import gate
from nqrust.installer.operations.site import open_site
from nqrust.installer.phases.kvm import MODULES_FILE
from nqrust.installer.phases.services import AGENT, binds, names_of
from nqrust.installer.platform.wait import Healthy
from nqrust.installer.proofs.hops import local_address
from nqrust.installer.release.bundled import read_release
from nqrust.installer.release.installed import installed_release
from nqrust.installer.release.sources import kept_release
from nqrust.installer.request import ServiceStatus
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor import registry
from nqrust.installer.supervisor.port import Supervisor
from nqrust.installer.supervisor.supervisord import Supervisord
from nqrust.installer.verbs.network.guard import asking
from nqrust.installer.verbs.postgres.cluster import PROGRAM
from nqrust.installer.verbs.service.supervisord import SupervisordRunning, supervisord_pid
from nqrust.installer.verbs.service.undo import scopes

_START_SECONDS = 60.0
_HEALTH_SECONDS = 120.0
_END_SECONDS = 60.0
_POLL = 0.2

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Services:
    """The services of this host in start order, by the supervisor's report. `vms`: how many VMs run."""

    supervisor: str
    services: tuple[ServiceStatus, ...]
    vms: int = 0

    @property
    def all_run(self) -> bool:
        return all(service.active for service in self.services)


@dataclass(frozen=True)
class Here:
    """The installation on this host, as far as its services need it."""

    host: Host
    settings: Settings
    supervisor: Supervisor

    @property
    def names(self) -> tuple[str, ...]:
        """Return our services in start order. systemd starts PostgreSQL for the manager; its unit is the distribution's."""
        own = names_of(self.settings)
        ours = isinstance(self.supervisor, Supervisord) and self.host.exists(self.supervisor.unit_path(PROGRAM))
        return (PROGRAM, *own) if ours else own


def show() -> Services:
    """Return the state of each service. Raises UsageError NQR-USE-020."""
    return _shown(on_this_host())


def start(tell: Tell) -> Services:
    """Start what does not run, in order, and wait until it answers. Starts nothing twice.

    Raises UsageError NQR-USE-020, Locked, StepFailed NQR-SVC-103 and NQR-SVC-104, NqrError NQR-SVC-105.
    """
    with gate.alone("services start"):
        here = on_this_host()
        host, supervisor = here.host, here.supervisor
        host.remove(f"{paths.AGENT_STATE_DIR}/{paths.GOES_DOWN}")
        if isinstance(supervisor, Supervisord):
            if asking.at_start(host):
                tell("The old network of this host is back, because nobody proved the new one before the restart.")
            _load_modules(host)
            running = SupervisordRunning(supervisor)
            if not isinstance(running.inspect(host), Satisfied):
                running.apply(host)
                tell("supervisord runs now.")
        for name in here.names:
            tell(f"{name} {_started(here, name)}.")
        for check in checks(here):
            check.apply(host)
        return _shown(here)


def stop(seconds: int, tell: Tell) -> Services:
    """Ask the guests to power off, then stop the services in reverse order. Guests that do not power off in time run on.

    Raises UsageError NQR-USE-020, Locked, NqrError NQR-SVC-106.
    """
    with gate.alone("services stop"):
        here = on_this_host()
        host, supervisor = here.host, here.supervisor
        supervised = isinstance(supervisor, Supervisord)
        if supervised and supervisord_pid(host, _supervisord(here)) is None:
            return _shown(here)
        if AGENT in here.names:
            _stop_agent(here, seconds, tell)
        for name in reversed(here.names):
            if name not in (AGENT, PROGRAM):
                _stop(here, name, tell)
        if supervised:
            _end_supervisord(here, tell)
        return _shown(here)


def on_this_host() -> Here:
    """Raises UsageError NQR-USE-020 without an installation."""
    site = open_site(NullReporter())
    settings = site.installed_settings
    if settings is None:
        raise UsageError("NQR-USE-020", "NQRust-MicroVM is not installed on this host.", "Run `nqr install` first.")
    found = registry.for_facts(supervisor_of(site.host), registry.supervisord_of(settings.layout))
    return Here(site.host, settings, found)


def _supervisord(here: Here) -> Supervisord:
    return registry.supervisord_of(here.settings.layout)


def _shown(here: Here) -> Services:
    states = {name: here.supervisor.state(here.host, name) for name in here.names}
    services = tuple(ServiceStatus(name, one.enabled, one.active, detail=one.text) for name, one in states.items())
    return Services(here.supervisor.name, services, len(scopes(here.host, SCOPE_PREFIX)))


def _load_modules(host: Host) -> None:
    """Load the kernel modules that systemd would load at boot. A container cannot, and the agent reports what lacks."""
    lines = host.read_text(MODULES_FILE).split("\n") if host.exists(MODULES_FILE) else []
    for name in (line.strip() for line in lines):
        if name and name[0] not in "#;" and not host.exists(f"/sys/module/{name.replace('-', '_')}"):
            try:
                host.run(command("modprobe", name, ok=(0, 1)))
            except HostError:
                return


def _started(here: Here, name: str) -> str:
    """Start the service unless it runs. Return which of both. Raises NqrError NQR-SVC-105."""
    host, supervisor = here.host, here.supervisor
    if supervisor.state(host, name).active:
        return "runs already"
    end, why = host.monotonic() + _START_SECONDS, ""
    while True:
        try:
            supervisor.start(host, name)
        except HostError as error:
            why = str(error)
        state = supervisor.state(host, name)
        if state.active:
            return "runs now"
        if host.monotonic() > end:
            raise _not_running(here, name, why or state.text)
        host.sleep(_POLL)


def _not_running(here: Here, name: str, why: str) -> NqrError:
    tail = "".join(f"\n    {line}" for line in here.supervisor.log_tail(here.host, name))
    return NqrError(
        "NQR-SVC-105",
        f"The service {name} does not run: {why.rstrip('.')}." + (f" Its last output:{tail}" if tail else ""),
        f"Read its log ({here.supervisor.log_hint(name)}), fix the problem that it names, then run `nqr services start` again.",
    )


def checks(here: Here) -> list[Healthy]:
    """Return what to wait for: the health addresses of the installed release, as far as this host has its descriptor."""
    release = installed_release(here.host, here.settings) or read_release(here.host, kept_release(here.settings))
    found = []
    for name, bind in binds(here.settings).items():
        component = release.component(name.removeprefix("nqrust-")) if release else None
        if component is not None and component.health is not None:
            url = f"http://{local_address(bind)}{component.health}"
            found.append(Healthy(f"healthy:{name}", url, _HEALTH_SECONDS, name, here.supervisor))
    return found


def _stop_agent(here: Here, seconds: int, tell: Tell) -> None:
    host = here.host
    asked = len(scopes(host, SCOPE_PREFIX))
    request = f"{paths.AGENT_STATE_DIR}/{paths.GOES_DOWN}"
    if asked and seconds and here.supervisor.state(host, AGENT).active:
        tell(f"Asking {_vms(asked)} to power off, for at most {seconds} s.")
        host.write_file(request, f"{seconds}\n".encode(), mode=0o600)
    _stop(here, AGENT, tell)
    host.remove(request)
    left = len(scopes(host, SCOPE_PREFIX))
    if left:
        tell(f"{_vms(left)} still {'runs' if left == 1 else 'run'}.")


def _vms(number: int) -> str:
    return f"{number} VM{'' if number == 1 else 's'}"


def _stop(here: Here, name: str, tell: Tell) -> None:
    """Stop the service if its supervisor knows it. Raises NqrError NQR-SVC-106."""
    if not here.supervisor.state(here.host, name).known:
        return
    try:
        here.supervisor.stop(here.host, name)
    except HostError as error:
        raise _not_stopped(name, str(error)) from error
    tell(f"{name} is stopped.")


def _end_supervisord(here: Here, tell: Tell) -> None:
    """End supervisord, which stops the rest: PostgreSQL, by its fast shutdown."""
    host, supervisord = here.host, _supervisord(here)
    try:
        host.run(command(*supervisord.control, "shutdown", timeout=30))
    except HostError as error:
        raise _not_stopped("supervisord", str(error)) from error
    end = host.monotonic() + _END_SECONDS
    while supervisord_pid(host, supervisord) is not None:
        if host.monotonic() > end:
            raise _not_stopped("supervisord", f"it still runs after {_END_SECONDS:g} s")
        host.sleep(_POLL)
    tell("supervisord is stopped.")


def _not_stopped(name: str, why: str) -> NqrError:
    return NqrError(
        "NQR-SVC-106",
        f"The service {name} did not stop: {why.rstrip('.')}.",
        "Put this cause right, then run `nqr services stop` again.",
    )

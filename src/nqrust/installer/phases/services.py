"""Phase 9: the units of this mode, started in order. Each must be healthy before the next starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from nqrust.contract import names, paths
from nqrust.host.secret import Secret
from nqrust.installer.context import Context
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.phases import build, database, environments, network, selinux, sudo
from nqrust.installer.platform.migrate import Migrate
from nqrust.installer.platform.wait import Healthy
from nqrust.installer.proofs.hops import local_address
from nqrust.installer.release.descriptor import ComponentKind
from nqrust.installer.resources.env import agent_env, database_url, manager_env, ui_env
from nqrust.installer.settings.model import DbType, NetworkMode, Settings
from nqrust.installer.supervisor import registry as registry_of_supervisors
from nqrust.installer.supervisor.holding import split_bind
from nqrust.installer.supervisor.spec import Hardening, ServiceSpec
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.network.makes_way import MakesWay
from nqrust.installer.verbs.service.unit import Service

NETWORK, DHCP = names.NETWORK_UNIT.removesuffix(".service"), names.DHCP_UNIT.removesuffix(".service")
MANAGER, AGENT, UI = (u.removesuffix(".service") for u in (names.MANAGER_UNIT, names.AGENT_UNIT, names.UI_UNIT))
DHCP_CAPABILITIES = ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID")
"""dnsmasq binds its ports as root, then becomes `nobody` and keeps none but the first three (dnsmasq(8), --user)."""
UI_MEMORY_MIB = 1024
"""The web UI idles at 75 MiB. Browsers can make it hold more, but not the memory of VMs."""
MIGRATED_FILE = f"{paths.STATE_DIR}/migrated"


@dataclass(frozen=True)
class Unit:
    """A service and its input. `reads`: files that it reads at its start; after a reboot, only they show whether it needs a
    restart. `content`: functions that return their content, and anything else that it reads then. `migrates`: whether the
    migration of the database comes before it."""

    spec: ServiceSpec
    reads: tuple[str, ...]
    content: tuple[Callable[[Context], str | Secret], ...]
    migrates: bool = False

    def restart_key(self, context: Context) -> str:
        """Return a digest of everything that the service reads at its start: unit, environment file, release, documents."""
        parts = [context.supervisor.render(self.spec)]
        for content in (of(context) for of in self.content):
            parts.append(content.reveal() if isinstance(content, Secret) else content)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def our_services(context: Context) -> tuple[ServiceSpec, ...]:
    """Return neutral specifications of this mode's services, in start order."""
    return tuple(unit.spec for unit in our_units(context))


def our_units(context: Context) -> tuple[Unit, ...]:
    """Return the services of this mode with their input, in start order."""
    make = {NETWORK: _network, DHCP: _dhcp, MANAGER: _manager, AGENT: _agent, UI: _ui}
    return tuple(make[name](context) for name in names_of(context.settings))


def names_of(settings: Settings) -> tuple[str, ...]:
    """Return the names of this mode's services, in start order."""
    has_dhcp = settings.has_agent and settings.network.mode is not NetworkMode.bridged  # a LAN has its own DHCP
    asked = ((NETWORK, settings.has_agent), (DHCP, has_dhcp), (MANAGER, settings.has_manager), (AGENT, settings.has_agent))
    return tuple(name for name, here in (*asked, (UI, settings.has_ui)) if here)


def _network(context: Context) -> Unit:
    spec = ServiceSpec(
        NETWORK,
        "NQRust-MicroVM: network of the VMs",
        (network.script_path(context), "up"),
        oneshot=True,
        order=50,
        after=("network-pre.target", *(("docker.service",) if network.has_docker(context) else ())),
        hardening=Hardening.none,
    )
    return Unit(spec, (network.script_path(context),), (_network_script,))


def _dhcp(context: Context) -> Unit:
    spec = ServiceSpec(
        DHCP,
        "NQRust-MicroVM: DHCP for the VM bridge",
        ("/usr/sbin/dnsmasq", f"--conf-file={context.layout.dnsmasq_conf}", "--keep-in-foreground"),
        order=60,
        after=(NETWORK,),
        requires=(NETWORK,),
        hardening=Hardening.strict,
        capabilities=DHCP_CAPABILITIES,
        read_write=(paths.DHCP_STATE_DIR,),
    )
    return Unit(spec, (context.layout.dnsmasq_conf,), (_dnsmasq,))


def _manager(context: Context) -> Unit:
    layout = context.layout
    local = context.settings.database.type is DbType.local
    spec = ServiceSpec(
        MANAGER,
        "NQRust-MicroVM manager",
        _start(context, "manager"),
        user=names.SERVICE_USER,
        group=names.SERVICE_GROUP,
        env_file=layout.manager_env,
        order=100,
        after=("network-online.target", *(("postgresql.service",) if local else ())),
        wants=("network-online.target", *(("postgresql.service",) if local else ())),
        hardening=Hardening.sudo if sudo.may_become_root(context, "manager") else Hardening.strict,
        read_write=(layout.image_dir, *_managers_folders(context)),
        folders=_with_links(context, _managers(layout)),
    )
    own = (layout.own_certificate,) if context.own_tls else ()
    # It reads bootstrap.json and the authority again without a restart.
    reads = (layout.manager_env, *own, layout.current_link)
    return Unit(spec, reads, (_version, manager_env, _own_certificate), migrates=True)


def folders_of_services(layout: paths.Layout) -> tuple[str, ...]:
    """Return the folders whose file systems services wait for."""
    return tuple(dict.fromkeys((*_managers(layout), *_agents(layout))))


def _managers(layout: paths.Layout) -> tuple[str, ...]:
    return layout.image_dir, paths.STATE_DIR


def _agents(layout: paths.Layout) -> tuple[str, ...]:
    """An administrator can give each its own file system. VMs that exist have what they need of their images in the cache."""
    return layout.vms_dir, layout.volumes_dir, layout.image_cache_dir, paths.STATE_DIR


def _with_links(context: Context, folders: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders, and where links to them lead: a supervisor follows none."""
    return tuple(dict.fromkeys(path for folder in folders for path in context.leads.get(folder, (folder,))))


def _managers_folders(context: Context) -> tuple[str, ...]:
    if not context.speaks_our_api:
        return (context.layout.vms_dir,)
    return (paths.MANAGER_TLS_DIR,) if context.settings.has_ui else ()


def _own_certificate(context: Context) -> str:
    return context.own_tls[0] if context.own_tls else ""


def _agent(context: Context) -> Unit:
    here = (MANAGER,) if context.settings.has_manager else ()
    dhcp = () if context.settings.network.mode is NetworkMode.bridged else (DHCP,)
    spec = ServiceSpec(
        AGENT,
        "NQRust-MicroVM agent",
        _start(context, "agent"),
        env_file=context.layout.agent_env,
        order=200,
        after=("network-online.target", NETWORK, *dhcp, *here),
        wants=("network-online.target", NETWORK, *dhcp),
        hardening=Hardening.host,
        keeps_children=True,
        folders=_with_links(context, _agents(context.layout)),
        stop_seconds=90,  # at a shutdown it waits for its guests
    )
    return Unit(spec, (context.layout.agent_env, context.layout.current_link), (_version, agent_env))


def _ui(context: Context) -> Unit:
    spec = ServiceSpec(
        UI,
        "NQRust-MicroVM web UI",
        _start(context, "ui"),
        user=names.UI_USER,
        group=names.UI_GROUP,
        env_file=context.layout.ui_env,
        order=300,
        after=("network-online.target", MANAGER),
        wants=("network-online.target",),
        hardening=Hardening.strict,
        runtime_directory="nqrust-ui",
        working_directory=f"{environments.release_dir(context)}/ui" if context.node else "/run/nqrust-ui",
        compiles=context.node is not None,
        memory_mib=UI_MEMORY_MIB,
    )
    return Unit(spec, (context.layout.ui_env, context.layout.current_link), (_version, ui_env))


def _start(context: Context, name: str) -> tuple[str, ...]:
    component = context.release.component(name)
    assert component is not None  # a release's descriptor lists every component of its mode
    words = tuple(w.format(bin=context.layout.bin_dir, release=environments.release_dir(context)) for w in component.start)
    return (context.node.program, *words[1:]) if component.kind is ComponentKind.node and context.node else words


def _version(context: Context) -> str:
    return context.release.version


def _network_script(context: Context) -> str:
    return network.boot_script(context)


def _dnsmasq(context: Context) -> str:
    return network.dhcp_server(context)


def plan(context: Context) -> PhasePlan:
    supervisor = context.supervisor
    steps: list[Step] = [*selinux.steps(context), *_making_way(context)]
    for unit in our_units(context):
        spec = unit.spec
        if unit.migrates:
            steps += _migration(context)
        if spec.runtime_directory and not context.has_systemd:  # systemd creates and removes it (RuntimeDirectory=)
            steps.append(_runtime_directory(spec))
        steps += [
            File(supervisor.unit_path(spec.name), supervisor.render(spec), what=spec.description),
            Service(
                spec.name,
                supervisor,
                restart_key=unit.restart_key(context),
                watch=unit.reads,
                deadline=90.0,
            ),
            *_healthy(context, spec),
        ]
    steps += build.registered_images(context, "services")
    return PhasePlan("services", "Services", tuple(steps), keeps=_keeps(context))


def _keeps(context: Context) -> tuple[str, ...]:
    """Return the ids of the other supervisor's files, which stay: the machine determines the supervisor, not the settings."""
    other = context.supervisord if context.has_systemd else registry_of_supervisors.for_facts("systemd")
    folders = [f"directory:/run/{s.runtime_directory}" for s in our_services(context) if s.runtime_directory]
    return (*(f"file:{other.unit_path(s.name)}" for s in our_services(context)), *folders)


def binds(settings: Settings) -> dict[str, str]:
    """Return service -> ADDRESS:PORT to listen on, for the services in these settings."""
    all_of_them = (
        (settings.has_manager, MANAGER, settings.manager.bind),
        (settings.has_agent, AGENT, settings.agent.bind),
        (settings.has_ui, UI, settings.ui.bind),
    )
    return {name: bind for asked, name, bind in all_of_them if asked}


def _making_way(context: Context) -> list[Step]:
    """Return steps that stop a service that holds another service's new port, before that other service starts."""
    now = {name: split_bind(bind) for name, bind in binds(context.settings).items()}
    steps: list[Step] = []
    for name in (MANAGER, AGENT, UI):
        held = {split_bind(b)[1] for s in context.former for n, b in binds(s).items() if n == name}
        wanted = tuple(at for taker, at in now.items() if taker != name and at[1] in held)
        if wanted:
            steps.append(MakesWay(name, context.supervisor, wanted))
    return steps


def _runtime_directory(spec: ServiceSpec) -> Step:
    return Directory(f"/run/{spec.runtime_directory}", owner=spec.user, group=spec.group, tree=True, adopt_modes=True)


def _healthy(context: Context, spec: ServiceSpec) -> list[Step]:
    settings = context.settings
    binds = {MANAGER: settings.manager.bind, AGENT: settings.agent.bind, UI: settings.ui.bind}
    component = context.release.component(spec.name.removeprefix("nqrust-"))
    if spec.name not in binds or component is None or component.health is None:
        return []
    url = f"http://{local_address(binds[spec.name])}{component.health}"
    return [Healthy(f"healthy:{spec.name}", url, 120.0, spec.name, context.supervisor)]


def _migration(context: Context) -> list[Step]:
    """Return the migration: after the release is in place, before the manager starts. It dumps a non-empty database first."""
    component = context.release.component("manager")
    if component is None:
        return []
    words = component.migrate or ()  # none: the component migrates at its start, so only the copy is made
    argv = tuple(w.format(bin=context.layout.bin_dir, release=environments.release_dir(context)) for w in words)
    return [
        Migrate(
            argv,
            context.release.version,
            MIGRATED_FILE,
            database.login(context),
            context.layout.backups_dir,
            env={"DATABASE_URL": Secret(database_url(context))},
            user=names.SERVICE_USER,
        )
    ]

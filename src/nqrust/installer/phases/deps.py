"""Phase 2: all distribution packages in one transaction, then the release and nqr itself.

The release is prepared here and not in `build`. Machines without systemd need supervisord before the database phase, and
nqr's own environment contains it.
"""

from __future__ import annotations

from nqrust.contract import paths
from nqrust.contract.images import CONTAINER_RUNTIME
from nqrust.host.environment import render
from nqrust.host.secret import Secret
from nqrust.installer.context import Context
from nqrust.installer.distro import registry
from nqrust.installer.distro.model import OPTIONAL_ROLES, Distro
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.phases import environments, sudo
from nqrust.installer.platform.node import ROLE as NODE
from nqrust.installer.release.keep_step import KeepRelease
from nqrust.installer.release.source_tree.tree_step import BuildTree
from nqrust.installer.settings.model import DbType, NetworkMode
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.symlink import Symlink
from nqrust.installer.verbs.packages.step import PackageIndex, Packages
from nqrust.installer.verbs.service.supervisord import SupervisordRunning

REPOSITORY = "packages:repository"
"""Id of the step that enables an additional repository. It stays: later runs find its packages installed."""


def roles(context: Context) -> list[str]:
    """Return the package roles (distro/) that this installation uses. Assumes no program on a minimal host."""
    settings, facts = context.settings, context.facts
    wanted = ["iproute2", "e2fsprogs", "zstd", *context.build_roles]
    if sudo.wanted(context):
        wanted.append("sudo")
    if facts.kernel.modules_loadable:
        wanted.append("kmod")
    if settings.has_manager:
        # nqr also dumps a remote database before it migrates it.
        wanted.append("postgresql" if settings.database.type is DbType.local else "postgresql-client")
        wanted += ["skopeo"] if context.speaks_our_api else []
    if settings.components.container_runtime and CONTAINER_RUNTIME not in context.files.images:
        wanted.append("image-builder")
    if facts.selinux:
        wanted.append("selinux")
    if context.node is not None and context.node.packaged:
        wanted.append(NODE)
    if settings.has_agent:
        wanted += [*(["qemu"] if context.speaks_our_api else []), "screen", "iptables"]
        bridged = settings.network.mode is NetworkMode.bridged
        wanted += ["nftables"] if bridged or context.speaks_our_api else []
        wanted += [] if bridged else ["dnsmasq"]
    return wanted


def plan(context: Context) -> PhasePlan:
    distro = registry.kin(context.facts.os)
    assert distro is not None  # preflight refuses unknown systems before any plan
    layout = context.layout
    # Preflight refuses packages that a distribution lacks. If the user overrides that, the step that needs one reports it.
    wanted = [role for role in roles(context) if role in distro.packages or role not in OPTIONAL_ROLES]
    names = distro.names(wanted)
    bundle = context.files.bundle
    manager = distro.manager.of_folder(f"{bundle}/packages") if bundle else distro.manager
    folders = [
        *[Directory(path) for path in _ancestors(layout.install_dir, layout.config_dir, layout.data_dir, layout.image_dir)],
        Directory(layout.install_dir, adopt_modes=True),
    ]
    own_python = environments.own_python(context)
    steps: list[Step] = [
        # First here is last at an uninstall, which may run on this Python.
        *([*folders, *own_python] if own_python else ()),
        *_reach(context),
        *_ahead(context, distro, wanted),
        *(context.files.steps if bundle else ()),  # it brings the packages too
        PackageIndex(names, manager, progress=context.progress),
        Packages(
            names,
            manager,
            hold_services=not context.has_systemd,
            residue_users=distro.residue_users,
            residue_groups=distro.residue_groups,
            progress=context.progress,
        ),
        *(() if own_python else folders),
        Directory(layout.config_dir, adopt_modes=True),
        Directory(paths.LOG_DIR, tree=True, adopt_modes=True),
        *(context.own.steps if context.own else ()),
        *(
            Directory(paths.STATE_DIR, mode=0o711, adopt_modes=True)
            for step in context.files.steps
            if step.kind == BuildTree.kind
        ),
        *(() if bundle else context.files.steps),
        *environments.wheelhouse(context),
        Directory(layout.installer_dir, adopt_modes=True),
        environments.installer_environment(context),
        KeepRelease(context.nqr.release.version, context.nqr.directory, f"{layout.installer_dir}/bundle"),
        Symlink(paths.NQR_LINK, f"{context.installer_venv}/bin/nqr"),
    ]
    if not context.has_systemd:
        supervisord = context.supervisord
        steps += [
            Directory(supervisord.programs_dir, adopt_modes=True),
            File(supervisord.config, supervisord.render_main(), mode=0o644),
            SupervisordRunning(supervisord),
        ]
    # Releases in their folders stay to go back to, and run on the Python that they came with.
    pythons = (f"own-python:{layout.install_dir}/python/*", f"directory:{layout.install_dir}/python")
    keeps = (*_supervisord_ids(context), REPOSITORY, *pythons)
    return PhasePlan("deps", "Packages and the release", tuple(steps), keeps=keeps)


def _reach(context: Context) -> list[Step]:
    """Return steps that remember proxies, mirrors and certificates for later runs, before anything needs them."""
    if not context.reach:
        return []
    content = Secret(render(context.reach))
    what = "proxies, mirrors and certificates, for later runs"
    return [Directory(paths.STATE_DIR, mode=0o711, adopt_modes=True), File(paths.REACH_ENV, content, mode=0o600, what=what)]


def _ahead(context: Context, distro: Distro, wanted: list[str]) -> list[Step]:
    """Return what the packages of these roles need first: a repository, a stream of a module."""
    steps = dict.fromkeys(distro.before[role] for role in wanted if role in distro.before)
    extra = distro.names(role for role in wanted if role in distro.extra_roles)
    repository = tuple(distro.extra_repository.values())
    if repository and set(extra) - context.facts.packages:
        return [Packages(repository, distro.manager, label="repository", progress=context.progress), *steps]
    return list(steps)


def _supervisord_ids(context: Context) -> tuple[str, ...]:
    """Return the ids of supervisord's steps, which stay: the machine determines the supervisor, not the settings."""
    supervisord = context.supervisord
    programs, main = f"directory:{supervisord.programs_dir}", f"file:{supervisord.config}"
    return (programs, main, f"supervisord:{supervisord.config}")


def _ancestors(*roots: str) -> list[str]:
    """Return the parents of the roots below /, outer before inner. Each occurs once, and roots are excluded."""
    found: dict[str, None] = {}
    for root in roots:
        parts = root.strip("/").split("/")[:-1]
        for n in range(len(parts)):
            found["/" + "/".join(parts[: n + 1])] = None
    return [path for path in found if path not in roots]

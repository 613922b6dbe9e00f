"""Phase 6: the release into its folder, `current` flipped to it, programs and the first image in place."""

from __future__ import annotations

from nqrust.contract import paths
from nqrust.installer.context import Context
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.phases import environments
from nqrust.installer.platform.artifact import Artifact
from nqrust.installer.platform.firecracker.step import FirecrackerPrograms
from nqrust.installer.platform.image import BuiltImage
from nqrust.installer.platform.node import NodeProgram
from nqrust.installer.platform.registered_images import RegisteredImages, Registry
from nqrust.installer.platform.release_link import CurrentLink
from nqrust.installer.platform.unpacked import Unpacked
from nqrust.installer.platform.vmm_verdict import VmmVerdict
from nqrust.installer.release import upstream
from nqrust.installer.release.build import render
from nqrust.installer.release.bundled import CONSOLE_SCRIPTS, DESCRIPTOR, HELPER
from nqrust.installer.release.descriptor import Component, ComponentKind
from nqrust.installer.release.node_wheel import LOCK
from nqrust.installer.resources.env import manager_base
from nqrust.installer.settings.model import VmmChoice
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.symlink import Symlink

CONTAINER_RUNTIME = "container-runtime"


def firecracker_path(context: Context) -> str:
    return f"{context.layout.bin_dir}/firecracker"


def plan(context: Context) -> PhasePlan:
    layout, settings = context.layout, context.settings
    target = environments.release_dir(context)
    parts = environments.components(context)
    steps: list[Step] = [
        Directory(layout.releases_dir, adopt_modes=True),
        Directory(target, adopt_modes=True),
    ]
    if any(c.kind is ComponentKind.python for c in parts):
        steps.append(environments.platform_environment(context))
    steps.append(Directory(f"{target}/bin", adopt_modes=True))
    for component in parts:
        steps.append(_program(context, component, target))
    if not context.speaks_our_api:  # later commands read there what is installed
        steps.append(File(f"{target}/{DESCRIPTOR}", render(context.release).decode(), what="what this release consists of"))
    steps += [
        CurrentLink(layout.current_link, f"releases/{context.release.version}"),
        Directory(layout.bin_dir, adopt_modes=True),
        *[Symlink(f"{layout.bin_dir}/{c.name}", f"../current/bin/{c.name}") for c in parts if c.kind is not ComponentKind.node],
        *_node(context, parts),
    ]
    if context.speaks_our_api and settings.has_agent:
        steps.append(Directory(layout.libexec_dir, adopt_modes=True))
        steps.append(Artifact(context.files.directory, HELPER, f"{layout.libexec_dir}/nqrust-helper"))
        if layout.data_dir != paths.DATA_DIR:
            steps.append(File(f"{layout.libexec_dir}/data-dir", f"{layout.data_dir}\n", what="read by nqrust-helper"))
    registry = _registry(context)
    steps += [
        Directory(layout.image_dir, tree=True, retain=Retain.data),
        *[
            Artifact(context.files.directory, name, f"{layout.image_dir}/{name}", mode=0o644, retain=Retain.data)
            for name in _boot_files(context)
        ],
        *[
            BuiltImage(
                layout.image_dir,
                f"{layout.bin_dir}/guest-agent",
                context.cache,
                registry,
                recipe,
                f"{context.files.bundle}/kernel" if context.files.bundle else "",
                f"{context.files.bundle}/images/{recipe}" if recipe in context.files.images else "",
                progress=context.progress,
            )
            for recipe in _recipes(context)
        ],
    ]
    if settings.has_agent:
        if context.firecracker is not None and _wants_firecracker(context):
            optional = settings.vmm is VmmChoice.auto and not context.firecracker.archive
            steps.append(
                FirecrackerPrograms(layout.bin_dir, context.firecracker, optional, cache=context.cache, progress=context.progress)
            )
        steps.append(Directory(paths.STATE_DIR, mode=0o711, adopt_modes=True))
        if context.speaks_our_api:  # upstream's agent knows Firecracker alone, so there is nothing to choose
            steps.append(
                VmmVerdict(
                    settings.vmm.value,
                    f"{layout.image_dir}/tiny",
                    firecracker_path(context),
                    progress=context.progress,
                )
            )
    return PhasePlan("build", "Release and first image", tuple(steps), keeps=_keeps(context), gives_up=(f"*:{target}/*",))


def _node(context: Context, parts: tuple[Component, ...]) -> list[Step]:
    """Return the folder of the web UI where the seed lists it, and Node.js if an archive brings it."""
    layout, steps = context.layout, list[Step]()
    if any(c.kind is ComponentKind.node for c in parts):
        steps.append(Symlink(f"{layout.install_dir}/ui", "current/ui"))
        if context.node is not None and context.node.program.startswith(f"{layout.bin_dir}/"):
            lock = f"{context.nqr.directory}/{LOCK}"
            steps.append(NodeProgram(context.node, lock, context.python.runner, cache=context.cache, progress=context.progress))
    return steps


def _boot_files(context: Context) -> tuple[str, ...]:
    """Return the images and kernels of a release that brings them as single files."""
    return upstream.boot_files(artifact.name for artifact in context.release.artifacts)


def _wants_firecracker(context: Context) -> bool:
    """Where it was asked for, where an archive is supplied, and where KVM may run it."""
    settings, kvm = context.settings, context.facts.kvm
    if context.firecracker and context.firecracker.bundled:
        return settings.vmm is not VmmChoice.qemu
    if settings.vmm is VmmChoice.auto:
        return (kvm.present and kvm.usable) or bool(context.firecracker and context.firecracker.archive)
    return settings.vmm is VmmChoice.firecracker


def _keeps(context: Context) -> tuple[str, ...]:
    """Other releases stay to go back to. Firecracker stays where another environment would install it, and where a VM may
    run under it."""
    layout, settings = context.layout, context.settings
    kept = [f"*:{layout.releases_dir}/*"]
    if settings.has_agent and (settings.vmm is not VmmChoice.qemu or context.vms):
        kept.append(f"firecracker:{firecracker_path(context)}")
    return tuple(kept)


def _registry(context: Context) -> Registry | None:
    """The manager of this host, where it has one that speaks our API."""
    if not context.settings.has_manager or not context.speaks_our_api:
        return None
    return Registry(manager_base(context), context.layout.cli_token_file)


def registered_images(context: Context, when: str) -> tuple[Step, ...]:
    """Asked once the services run, and by `nqr phase run build` when the images are built. Not before in a whole run: the
    manager may be sick, or not yet at its new port, and another program must not be sent its token."""
    registry, names = _registry(context), tuple(_recipes(context))
    if registry is None or not names:
        return ()
    return (RegisteredImages(registry, context.layout.image_dir, names, when),)


def _recipes(context: Context) -> list[str]:
    """Return the images to build here. The settings decide about the container runtime, and the release about the others."""
    listed = [image.build for image in context.release.images if image.build not in (None, CONTAINER_RUNTIME)]
    asked = [CONTAINER_RUNTIME] if context.settings.components.container_runtime else []
    return [*filter(None, listed), *asked]


def _program(context: Context, component: Component, target: str) -> Step:
    """`<release>/bin/<component>`: a console script's link, or the static binary itself. A web UI for Node.js is a folder."""
    path = f"{target}/bin/{component.name}"
    if component.kind is ComponentKind.python:
        return Symlink(path, f"../venv/bin/{CONSOLE_SCRIPTS[component.name]}")
    if component.kind is ComponentKind.node:
        return Unpacked(context.files.directory, component.artifact or "", f"{target}/{component.name}", component.start[-1])
    return Artifact(context.files.directory, component.artifact or component.name, path)

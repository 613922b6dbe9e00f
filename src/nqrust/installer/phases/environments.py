"""The Python environments of an installation: one for nqr, and one per release for its components."""

from __future__ import annotations

from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.step import Step
from nqrust.installer.platform.own_python import OwnPython
from nqrust.installer.platform.venv import PythonEnvironment
from nqrust.installer.release.bundle.contents import COMPILED
from nqrust.installer.release.bundled import CONSOLE_SCRIPTS, OWN_WHEEL
from nqrust.installer.release.descriptor import Component, ComponentKind
from nqrust.installer.release.wheelhouse import Wheelhouse
from nqrust.installer.verbs.file.directory import Directory

INSTALLER_REQUIREMENTS = ("requirements/installer.txt", OWN_WHEEL)
SUPERVISORD_REQUIREMENT = "requirements/supervisord.txt"


def own_python(context: Context) -> list[Step]:
    """Return the steps for the installation's own Python. None where the host's Python serves."""
    python = context.python
    if not python.home:
        return []
    folder = Directory(python.home.rpartition("/")[0], adopt_modes=True)
    return [folder, OwnPython(python.brought, python.home, python.base.rpartition("/")[2], progress=context.progress)]


def components(context: Context) -> tuple[Component, ...]:
    """Return the release's components that this mode installs."""
    settings = context.settings
    wanted = {
        "manager": settings.has_manager,
        "agent": settings.has_agent,
        "guest-agent": True,
        "ui": settings.has_ui,
    }
    return tuple(c for c in context.release.components if wanted[c.name])


def release_dir(context: Context) -> str:
    return f"{context.layout.releases_dir}/{context.release.version}"


def platform_requirements(context: Context) -> tuple[str, ...]:
    """Return the requirement files of the Python components without repeats, the project's own wheel last."""
    named = [r for c in components(context) if c.kind is ComponentKind.python for r in c.requirements]
    unique = tuple(dict.fromkeys(r for r in named if r != OWN_WHEEL))
    return (*unique, OWN_WHEEL) if named else ()


def installer_requirements(context: Context) -> tuple[str, ...]:
    extra = () if context.has_systemd else (SUPERVISORD_REQUIREMENT,)
    return (INSTALLER_REQUIREMENTS[0], *extra, OWN_WHEEL)


def installer_environment(context: Context) -> PythonEnvironment:
    """Return the environment of nqr, with supervisord if the machine has no systemd."""
    scripts = ("nqr",) if context.has_systemd else ("nqr", "supervisord", "supervisorctl")
    return _environment(context, context.nqr, "nqr", context.installer_venv, installer_requirements(context), scripts)


def platform_environment(context: Context) -> PythonEnvironment:
    scripts = tuple(
        CONSOLE_SCRIPTS[c.name] for c in components(context) if c.kind is ComponentKind.python and c.name in CONSOLE_SCRIPTS
    )
    venv = f"{release_dir(context)}/venv"
    return _environment(context, context.files, "the platform", venv, platform_requirements(context), scripts)


def wheelhouse(context: Context) -> list[Step]:
    """Return the step for the third-party wheels of both environments. No later step downloads Python packages. None with a bundle,
    which holds them."""
    if context.files.bundle:
        return []
    environments = [installer_environment(context)]
    names = list(installer_requirements(context))
    if platform_requirements(context):
        environments.append(platform_environment(context))
        names += platform_requirements(context)
    step = Wheelhouse(
        version=context.nqr.release.version,
        release_dir=context.nqr.directory,
        requirements=tuple(n for n in dict.fromkeys(names) if n != OWN_WHEEL),
        runner=context.python.runner,
        environments=tuple(environments),
        directory=f"{context.cache}/wheelhouse",
        progress=context.progress,
    )
    return [step]


def _environment(
    context: Context, files: ReleaseFiles, name: str, directory: str, requirements: tuple[str, ...], scripts: tuple[str, ...]
) -> PythonEnvironment:
    wheels = f"{context.files.bundle}/wheels" if context.files.bundle else f"{context.cache}/wheelhouse"
    return PythonEnvironment(
        name=name,
        directory=directory,
        python=context.python.base,
        python_version=context.python.version,
        runner=context.python.runner,
        requirements=tuple(f"{files.directory}/{r}" for r in requirements),
        find_links=(wheels, f"{files.directory}/wheels"),
        version=files.release.version,
        scripts=scripts,
        compiled=f"{context.files.bundle}/{COMPILED}" if context.files.bundle else "",
        progress=context.progress,
    )

"""The clone's first process: systemd with nqr's own target, or a small init.

Only the basic system starts. The host's enabled timers, network managers, fstab mounts and services do not, because they
would use copies of the host's data. The install starts the services that it needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex

from nqrust.host.environment import PATH
from nqrust.installer.rehearsal.spec import CONTROL, CloneSpec

INSIDE = "nqrust.installer.rehearsal.inside"
TARGET, SERVICE = "nqr-rehearsal.target", "nqr-rehearsal.service"
SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
WORK = f"{CONTROL}/work.json"
_GENERATOR_FOLDERS = ("/usr/lib/systemd", "/lib/systemd", "/usr/local/lib/systemd", "/etc/systemd")
_KEPT_GENERATORS = frozenset({"postgresql-generator", "systemd-sysv-generator"})


def python(source: str, executable: str, module: str, pycache: str = "") -> tuple[str, ...]:
    """Return the argv that runs an nqr module like `python -m`, isolated from the caller's environment."""
    code = f"import sys, runpy; sys.path.insert(0, {source!r}); runpy.run_module({module!r}, run_name='__main__')"
    return (executable, "-I", *(("-X", f"pycache_prefix={pycache}") if pycache else ()), "-c", code)


def units(spec: CloneSpec) -> dict[str, str]:
    """Return the clone's unit files by name."""
    wanted = " ".join(spec.wanted)
    return {
        TARGET: (
            "[Unit]\nDescription=Rehearsal of an install\nAllowIsolate=yes\nRequires=sysinit.target\n"
            f"Wants={SERVICE} {wanted}\nAfter=sysinit.target\n"
        ),
        SERVICE: (
            "[Unit]\nDescription=The install that is rehearsed\nDefaultDependencies=no\n"
            f"After=sysinit.target {wanted}\n\n[Service]\nExecStart=/bin/sh {CONTROL}/start\nKillMode=control-group\n"
        ),
    }  # fmt: skip


def boot(spec: CloneSpec) -> None:
    """Become the first process. Returns only without systemd, when the work has ended."""
    _write(WORK, json.dumps(dataclasses.asdict(spec.work)))
    _write(f"{CONTROL}/start", f"exec {shlex.join(spec.python)}\n")
    environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", "container": "nqr-rehearsal"}
    os.chdir("/")
    if not spec.boot:
        _small_init(environment)
        return
    os.makedirs("/run/systemd/system", exist_ok=True)
    for name, content in units(spec).items():
        _write(f"/run/systemd/system/{name}", content, 0o644)
    _mask("/run/systemd/system.control", spec.masked)
    generators = {
        name for folder in _GENERATOR_FOLDERS for name in _names(f"{folder}/system-generators") if name not in _KEPT_GENERATORS
    }
    _mask("/run/systemd/system-generators", tuple(generators))
    program = next(path for path in SYSTEMD if os.path.exists(path))
    os.execve(program, [program, "--system", f"--unit={TARGET}"], environment)


def _small_init(environment: dict[str, str]) -> None:
    """Start the work and reap every process until the work ends. The rest then ends with this process."""
    worker = os.fork()
    if worker == 0:
        try:
            os.execve("/bin/sh", ["sh", f"{CONTROL}/start"], environment)
        finally:
            os._exit(127)
    while os.wait()[0] != worker:
        pass


def own_groups() -> list[str]:
    """Create and return the clone's control groups below this process's scope. Moves this process out of the scope's own
    group.

    cgroups(7): only leaves may contain processes, so the scope's group must be empty before it can delegate controllers.
    """
    found = []
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        lines = file.read().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        mounted = {"": ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"), "name=systemd": ("/sys/fs/cgroup/systemd",)}
        for base in mounted.get(controllers, ()):
            scope = f"{base}{path}"
            if path == "/" or not os.path.exists(f"{scope}/cgroup.procs"):
                continue
            with contextlib.suppress(OSError):
                for name in ("supervisor", "clone"):
                    os.makedirs(f"{scope}/{name}", exist_ok=True)
                found.append(f"{scope}/clone")
                if controllers == "":
                    _put(f"{scope}/supervisor/cgroup.procs", str(os.getpid()))
                    with open(f"{scope}/cgroup.controllers", encoding="ascii") as file:
                        for one in file.read().split():
                            _put(f"{scope}/cgroup.subtree_control", f"+{one}")
            break
    return found


def join(groups: list[str]) -> None:
    for group in groups:
        with contextlib.suppress(OSError):
            _put(f"{group}/cgroup.procs", "0")


def _put(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _write(path: str, content: str, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)


def _mask(folder: str, names: tuple[str, ...]) -> None:
    os.makedirs(folder, exist_ok=True)
    for name in names:
        with contextlib.suppress(FileExistsError):
            os.symlink("/dev/null", f"{folder}/{name}")


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []

"""Python environments, made for real from a small wheel."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost
from nqrust.host.port import Command, Completed
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Needed, Origin, Satisfied
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.platform.venv import PythonEnvironment
from nqrust.installer.release import compiled
from nqrust.installer.release.compiled import RARE
from nqrust.installer.release.interpreter import interpreter
from nqrust.installer.release.wheelhouse import Wheelhouse
from nqrust.installer.verbs.registry import revert

PYTHON = interpreter()


def make_wheel(folder: Path, name: str) -> Path:
    """A wheel of one module with one console script."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"def main():\n    print('{name} runs')\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def lock(folder: Path, wheel: Path) -> Path:
    name = wheel.name.partition("-")[0]
    path = folder / f"{name}.txt"
    path.write_text(f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return path


@pytest.fixture
def alpha(tmp_path: Path) -> Path:
    return lock(tmp_path, make_wheel(tmp_path / "wheels", "alpha"))


def environment(tmp_path: Path, *locks: Path, version: str = "1") -> PythonEnvironment:
    return PythonEnvironment(
        name="test",
        directory=str(tmp_path / "venv"),
        python=PYTHON.base,
        python_version=PYTHON.version,
        runner=PYTHON.runner,
        requirements=tuple(map(str, locks)),
        find_links=(str(tmp_path / "wheels"),),
        version=version,
        scripts=tuple(path.stem for path in locks),
    )


def test_venv_is_built_offline_and_its_scripts_run(tmp_path: Path, alpha: Path) -> None:
    host, step = LocalHost(), environment(tmp_path, alpha)
    assert isinstance(step.inspect(host), Needed)
    prepared = step.prepare(host)
    assert prepared.origin is Origin.created and [u.verb for u in prepared.undo] == ["directory"]
    step.apply(host)
    step.verify(host)
    assert isinstance(step.inspect(host), Satisfied)
    script = tmp_path / "venv/bin/alpha"
    assert script.read_text().startswith(f"#!{tmp_path}/venv/bin/python")
    assert subprocess.run([script], capture_output=True, text=True, check=True).stdout == "alpha runs\n"
    assert list((tmp_path / "venv").rglob("alpha.cpython-*.pyc")), "compiled, because services may not write there"
    assert not (tmp_path / "venv/bin/pip").exists()


def test_the_venv_of_the_release_before_works_again_after_a_rollback(tmp_path: Path, alpha: Path) -> None:
    host, newer = LocalHost(), environment(tmp_path, alpha, lock(tmp_path, make_wheel(tmp_path / "wheels", "beta")), version="2")
    environment(tmp_path, alpha).apply(host)
    prepared = newer.prepare(host)
    newer.apply(host)
    newer.verify(host)
    for undo in prepared.undo:
        revert(UndoContext(host, Originals(host, str(tmp_path / "originals"))), undo)
    assert isinstance(environment(tmp_path, alpha).inspect(host), Satisfied)
    done = subprocess.run([tmp_path / "venv/bin/alpha"], capture_output=True, text=True, check=True)
    assert done.stdout == "alpha runs\n" and not list(tmp_path.glob("venv?*")) + list(tmp_path.rglob("beta"))


def test_venv_scripts_ignore_python_variables_of_the_caller(tmp_path: Path, alpha: Path) -> None:
    environment(tmp_path, alpha).apply(LocalHost())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/alpha.py").write_text("def main():\n    print('another runs')\n")
    for name, value in (("PYTHONPATH", f"{tmp_path}/elsewhere"), ("PYTHONHOME", "/nonexistent")):
        script = [tmp_path / "venv/bin/alpha"]
        done = subprocess.run(script, capture_output=True, text=True, env={name: value}, cwd=tmp_path / "elsewhere")
        assert (done.returncode, done.stdout) == (0, "alpha runs\n"), done.stderr


def test_every_user_can_run_the_venv_under_any_umask(tmp_path: Path, alpha: Path) -> None:
    import os

    before = os.umask(0o077)
    try:
        environment(tmp_path, alpha).apply(LocalHost())
    finally:
        os.umask(before)
    assert (tmp_path / "venv/bin/alpha").stat().st_mode & 0o755 == 0o755
    module = next((tmp_path / "venv").rglob("alpha.py"))
    assert module.stat().st_mode & 0o444 == 0o444


def test_incomplete_venv_is_rebuilt(tmp_path: Path, alpha: Path) -> None:
    class PowerCut(BaseException):
        pass

    class Cut(LocalHost):
        def run(self, cmd: Command, *, on_line: object = None) -> Completed:
            if "compileall" in cmd.argv:
                raise PowerCut
            return super().run(cmd)

    step = environment(tmp_path, alpha)
    with pytest.raises(PowerCut):
        step.apply(Cut())
    assert isinstance(step.inspect(LocalHost()), Needed)
    assert step.prepare(LocalHost()).undo == (), "services may run from it: what takes it away is on record already"
    next((tmp_path / "venv").rglob("alpha.py")).unlink()
    step.apply(LocalHost())
    assert subprocess.run([tmp_path / "venv/bin/alpha"], capture_output=True, check=True).stdout == b"alpha runs\n"


def test_another_mode_extends_the_venv_and_undo_keeps_it(tmp_path: Path, alpha: Path) -> None:
    host = LocalHost()
    environment(tmp_path, alpha).apply(host)
    inode = (tmp_path / "venv/pyvenv.cfg").stat().st_ino
    beta = lock(tmp_path, make_wheel(tmp_path / "wheels", "beta"))
    more = environment(tmp_path, alpha, beta)
    assert isinstance(more.inspect(host), Needed)
    assert more.prepare(host).undo == (), "a failed re-run must not take away an environment that services use"
    more.apply(host)
    more.verify(host)
    assert (tmp_path / "venv/pyvenv.cfg").stat().st_ino == inode
    assert (tmp_path / "venv/bin/beta").exists()


def test_a_swapped_wheel_is_refused(tmp_path: Path, alpha: Path) -> None:
    wheel = tmp_path / "wheels/alpha-1.0-py3-none-any.whl"
    wheel.write_bytes(make_wheel(tmp_path / "other", "alpha").read_bytes() + b"\0")
    with pytest.raises(StepFailed) as failure:
        environment(tmp_path, alpha).apply(LocalHost())
    assert failure.value.code == "NQR-REL-010"
    assert isinstance(environment(tmp_path, alpha).inspect(LocalHost()), Needed)


def test_a_missing_wheel_is_named(tmp_path: Path, alpha: Path) -> None:
    (tmp_path / "wheels/alpha-1.0-py3-none-any.whl").unlink()
    with pytest.raises(StepFailed) as failure:
        environment(tmp_path, alpha).apply(LocalHost())
    assert "alpha" in failure.value.what


def test_missing_venv_script_is_detected(tmp_path: Path, alpha: Path) -> None:
    step = environment(tmp_path, alpha)
    step.apply(LocalHost())
    (tmp_path / "venv/bin/alpha").unlink()
    assert isinstance(step.inspect(LocalHost()), Needed)


@pytest.fixture
def index(tmp_path: Path, alpha: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return alpha


def test_wheels_are_fetched_once(tmp_path: Path, index: Path) -> None:
    host = LocalHost()
    pool = str(tmp_path / "cache/wheelhouse")
    step = Wheelhouse("1", str(tmp_path), (index.name,), sys.executable, directory=pool)
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    step.verify(host)
    assert (tmp_path / "cache/wheelhouse/alpha-1.0-py3-none-any.whl").exists()
    assert isinstance(Wheelhouse("2", str(tmp_path), (index.name,), sys.executable, directory=pool).inspect(host), Needed)


def test_no_wheel_is_fetched_for_environments_that_are_complete(tmp_path: Path, index: Path) -> None:
    made = environment(tmp_path, index)
    made.apply(LocalHost())
    step = Wheelhouse("1", str(tmp_path), (index.name,), sys.executable, (made,), str(tmp_path / "nowhere"))
    assert isinstance(step.inspect(LocalHost()), Satisfied)


@pytest.mark.parametrize(("change", "code"), [("hash", "NQR-REL-008"), ("gone", "NQR-REL-007")])
def test_failed_wheel_download_tells_why(tmp_path: Path, index: Path, change: str, code: str) -> None:
    if change == "hash":
        index.write_text("alpha==1.0 --hash=sha256:" + "0" * 64 + "\n")
    else:
        (tmp_path / "wheels/alpha-1.0-py3-none-any.whl").unlink()
    step = Wheelhouse("1", str(tmp_path), (index.name,), sys.executable, directory=str(tmp_path / "pool"))
    with pytest.raises(StepFailed) as failure:
        step.apply(LocalHost())
    assert failure.value.code == code and failure.value.cure
    assert isinstance(step.inspect(LocalHost()), Needed)


def test_venv_keeps_packages_of_a_switched_off_component_without_network(tmp_path: Path) -> None:
    """Switching the component off or on needs no download and no install."""
    both = [lock(tmp_path, make_wheel(tmp_path / "wheels", name)) for name in ("alpha", "beta")]
    whole, less = environment(tmp_path, *both), environment(tmp_path, both[0])
    whole.apply(LocalHost())
    assert isinstance(less.inspect(LocalHost()), Satisfied) and isinstance(whole.inspect(LocalHost()), Satisfied)
    step = Wheelhouse("1", str(tmp_path), (both[0].name,), sys.executable, (less,), str(tmp_path / "nowhere"))
    assert isinstance(step.inspect(LocalHost()), Satisfied)
    newer = environment(tmp_path, both[0], version="2")
    assert isinstance(newer.inspect(LocalHost()), Needed), "another release is another environment"


def test_extended_venv_lists_all_its_packages(tmp_path: Path) -> None:
    both = [lock(tmp_path, make_wheel(tmp_path / "wheels", name)) for name in ("alpha", "beta")]
    for one in both:
        environment(tmp_path, one).apply(LocalHost())
    assert isinstance(environment(tmp_path, *both).inspect(LocalHost()), Satisfied)


def test_modules_that_no_service_loads_are_not_compiled(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", "alpha")
    with zipfile.ZipFile(wheel, "a") as archive:
        for name in (
            "docutils/core.py",
            "pygments/lexers/python.py",
            "pygments/lexers/_mapping.py",
            "pip/main.py",
            "pipeline/main.py",
        ):
            archive.writestr(name, "")
    environment(tmp_path, lock(tmp_path, wheel)).apply(LocalHost())
    compiled = {path.name.partition(".")[0] for path in (tmp_path / "venv").rglob("*.pyc")}
    assert compiled == {"alpha", "_mapping", "main"}
    assert [path.parent.parent.name for path in (tmp_path / "venv").rglob("main.*.pyc")] == ["pipeline"]


@pytest.mark.parametrize(
    "modules", [("ui.__main__", "ui.application"), ("manager.__main__", "manager.app"), ("agent.__main__", "agent.server")]
)
def test_services_load_no_module_that_is_not_compiled(modules: tuple[str, ...]) -> None:
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module('nqrust.' + name)\n"
    program += "print(*(getattr(module, '__file__', None) or '' for module in list(sys.modules.values())), sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program, *modules], capture_output=True, text=True, check=True).stdout
    assert "fastapi" in loaded
    assert [path for path in loaded.splitlines() if re.search(RARE, path)] == []


def packed(folder: Path, name: str) -> Path:
    """Modules of a package alpha, and of beta, which only other environments have, compiled into an archive."""
    library = folder / name / "site-packages"
    for module, text in (("alpha.py", "def main():\n    print('alpha runs')\n"), ("beta/__init__.py", "")):
        (library / module).parent.mkdir(parents=True, exist_ok=True)
        (library / module).write_text(text)
    compiled.pack(LocalHost(), PYTHON.runner, str(library), str(folder / f"{name}.tar"))
    return folder / f"{name}.tar"


def test_compiled_modules_of_a_bundle_are_taken_and_an_edited_source_wins(tmp_path: Path, alpha: Path) -> None:
    archive = packed(tmp_path, "one")
    assert packed(tmp_path, "another place").read_bytes() == archive.read_bytes()
    commands: list[Command] = []
    replace(environment(tmp_path, alpha), compiled=str(archive)).apply(LocalHost(observe=lambda cmd, *_: commands.append(cmd)))
    (module,) = (tmp_path / "venv").rglob("alpha.cpython-*.pyc")
    assert not list((tmp_path / "venv").rglob("beta*")), "a package without a source"
    with tarfile.open(archive) as read:
        found = read.extractfile(f"./__pycache__/{module.name}")
        assert found is not None and found.read() == module.read_bytes(), "nothing compiled it here"
    program = [tmp_path / "venv/bin/alpha"]
    assert subprocess.run(program, capture_output=True, check=True).stdout == b"alpha runs\n"
    source = module.parent.parent / "alpha.py"
    source.write_text(source.read_text().replace("runs", "RUNS"))
    assert subprocess.run(program, capture_output=True, check=True).stdout == b"alpha RUNS\n"


def test_damaged_archive_of_compiled_modules_fails_the_step(tmp_path: Path, alpha: Path) -> None:
    archive = packed(tmp_path, "one")
    archive.write_bytes(archive.read_bytes()[:700])
    with pytest.raises(HostError):
        replace(environment(tmp_path, alpha), compiled=str(archive)).apply(LocalHost())


def test_an_environment_that_grows_keeps_the_times_of_its_sources(tmp_path: Path, alpha: Path) -> None:
    archive = str(packed(tmp_path, "one"))
    replace(environment(tmp_path, alpha), compiled=archive).apply(LocalHost())
    (source,) = (tmp_path / "venv").rglob("alpha.py")
    source.write_text(source.read_text().replace("runs", "RUNS"))
    edited = source.stat().st_mtime_ns
    beta = lock(tmp_path, make_wheel(tmp_path / "wheels", "beta"))
    replace(environment(tmp_path, alpha, beta), compiled=archive).apply(LocalHost())
    assert source.stat().st_mtime_ns == edited
    assert subprocess.run([tmp_path / "venv/bin/alpha"], capture_output=True, check=True).stdout == b"alpha RUNS\n"
    assert list((tmp_path / "venv").rglob("beta.cpython-*.pyc")), "compiled here"

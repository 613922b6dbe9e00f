"""nqr dev reload: what it copies, which services it restarts, and what it refuses before any change."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.effects.observing import RELEASE
from tests.unit.installer.operations.test_serving import Machine

from nqrust.host.port import Command
from nqrust.installer.engine.errors import NqrError, StepFailed, UsageError
from nqrust.installer.operations import reloading
from nqrust.installer.release.sources import kept_release
from nqrust.installer.settings.sources import gather

TREE, ROOT = "/src/own", "/opt/nqrust-microvm"
COPIES = (
    f"{ROOT}/current/venv/lib/python3.11/site-packages/nqrust",
    f"{ROOT}/installer/venv/lib/python3.11/site-packages/nqrust",
)
SOURCES = {
    "__init__.py": "",
    "host/__init__.py": "",
    "host/port.py": "A = 1\n",
    "manager/__init__.py": "",
    "manager/__main__.py": "from nqrust.host import port\n",
    "manager/store/migrations/versions/one.py": "",
    "agent/__init__.py": "",
    "agent/__main__.py": "from nqrust.host import port\n",
    "ui/__init__.py": "",
    "ui/__main__.py": "",
    "cli/__init__.py": "",
}


class Development(Machine):
    def __init__(self, patch: pytest.MonkeyPatch, tmp_path: Any, mode: str = "dev") -> None:
        super().__init__(patch, tmp_path, systemd=True)
        self.settings = gather(flags={"mode": mode, "release.source_dir": str(tmp_path)}, environ={}).settings
        self.settings = self.settings.model_copy(
            update={"release": self.settings.release.model_copy(update={"source_dir": TREE})}
        )
        host = self.host
        host.put(f"{TREE}/pyproject.toml", "[project]\n")
        for folder in (f"{TREE}/src/nqrust", *COPIES):
            for name, text in SOURCES.items():
                host.put(f"{folder}/{name}", text)
        for venv in (f"{ROOT}/current/venv", f"{ROOT}/installer/venv"):
            host.on(f"{venv}/bin/python", "-I", "-m", "compileall", prefix=True)
        for path in (f"{TREE}/requirements/ui.txt", f"{kept_release(self.settings)}/requirements/ui.txt"):
            host.put(path, "nicegui==3\n")
        patch.setattr(reloading, "installed_release", lambda *_: RELEASE)
        self.running |= {"nqrust-manager", "nqrust-agent", "nqrust-ui"}

    def _does(self, verb: str, name: str) -> None:
        if verb == "restart":
            self.calls.append(f"restart {name}")
        super()._does(verb, name)

    def edit(self, name: str, text: str | None) -> None:
        path = f"{TREE}/src/nqrust/{name}"
        if text is None:
            self.host.remove(path)
        else:
            self.host.put(path, text)

    def reload(self, source: str = "") -> reloading.Reloaded:
        return reloading.reload(source, self.said.append)

    @property
    def restarted(self) -> list[str]:
        return [call for call in self.calls if "restart" in call]


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Development:
    return Development(monkeypatch, tmp_path)


def test_same_sources_restart_nothing_and_write_nothing(dev: Development) -> None:
    dev.host.mutations.clear()
    assert dev.reload() == reloading.Reloaded((), (), ("nqrust-manager", "nqrust-agent", "nqrust-ui"))
    assert dev.restarted == [] and dev.host.mutations == []


@pytest.mark.parametrize(
    ("name", "restarted"),
    [
        ("manager/__main__.py", ["nqrust-manager"]),
        ("host/port.py", ["nqrust-manager", "nqrust-agent"]),
        ("ui/__main__.py", ["nqrust-ui"]),
        ("cli/__init__.py", []),
        ("ui/resources/ui.css", ["nqrust-ui"]),
    ],
)
def test_only_services_that_load_a_changed_file_restart(dev: Development, name: str, restarted: list[str]) -> None:
    dev.edit(name, "B = 2\n")
    done = dev.reload()
    assert done.files == (name,) and list(done.restarted) == restarted
    assert [call.split()[-1] for call in dev.restarted] == restarted
    assert {*done.restarted, *done.left} == {"nqrust-manager", "nqrust-agent", "nqrust-ui"}
    for copy in COPIES:
        assert dev.host.read_text(f"{copy}/{name}") == "B = 2\n"
    assert dev.reload().files == (), "the second time there is nothing to bring"


def test_removed_file_goes_and_restarts_what_loaded_it(dev: Development) -> None:
    dev.edit("agent/__main__.py", "")
    dev.edit("host/port.py", None)
    dev.edit("manager/__main__.py", "")
    done = dev.reload()
    assert list(done.restarted) == ["nqrust-manager", "nqrust-agent"]
    assert not any(dev.host.exists(f"{copy}/host/port.py") for copy in COPIES)


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("ui/__main__.py", "def (:\n", "NQR-DEP-963"),
        ("manager/store/migrations/versions/two.py", "", "NQR-DEP-962"),
        ("../../requirements/ui.txt", "nicegui==4\n", "NQR-DEP-962"),
    ],
)
def test_refused_changes_leave_all_as_it_was(dev: Development, name: str, text: str, code: str) -> None:
    dev.edit("host/port.py", "B = 2\n")
    dev.edit(name, text) if ".." not in name else dev.host.put(f"{TREE}/requirements/ui.txt", text)
    with pytest.raises(NqrError) as caught:
        dev.reload()
    assert caught.value.code == code and name.rpartition("/")[2] in caught.value.what
    assert dev.restarted == [] and dev.host.read_text(f"{COPIES[0]}/host/port.py") == "A = 1\n"


def test_other_modes_and_other_trees_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, dev: Development) -> None:
    with pytest.raises(UsageError) as caught:
        dev.reload("/elsewhere")
    assert caught.value.code == "NQR-DEP-961"
    assert dev.settings is not None
    dev.settings = dev.settings.model_copy(update={"release": dev.settings.release.model_copy(update={"source_dir": None})})
    with pytest.raises(UsageError) as caught:
        dev.reload()
    assert caught.value.code == "NQR-DEP-961" and "--source" in caught.value.cure
    monkeypatch.setattr(reloading, "installed_release", lambda *_: RELEASE.model_copy(update={"form": "upstream"}))
    with pytest.raises(UsageError, match="another project"):
        dev.reload(TREE)
    with pytest.raises(UsageError) as caught:
        Development(monkeypatch, tmp_path, mode="production").reload()
    assert caught.value.code == "NQR-DEP-960" and "production" in caught.value.what


def test_service_that_does_not_come_up_ends_the_reload(dev: Development, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading.serving, "_HEALTH_SECONDS", 0.1)
    dev.host.pages = {url: page for url, page in dev.host.pages.items() if "3000" not in url}
    dev.edit("ui/__main__.py", "B = 2\n")
    dev.host.on("journalctl", prefix=True, answer="NameError: name 'B'\n")
    with pytest.raises(StepFailed, match="NameError"):
        dev.reload()
    assert [call.split()[-1] for call in dev.restarted] == ["nqrust-ui"]


def test_copies_are_compiled_because_services_cannot_write_there(dev: Development) -> None:
    dev.edit("ui/__main__.py", "B = 2\n")
    dev.reload()
    compiled = [one for one in dev.host.commands if "compileall" in one.argv]
    assert [one.argv[-1] for one in compiled] == list(COPIES) and all(isinstance(one, Command) for one in compiled)
    assert isinstance(dev.host, FakeHost)

"""Which modules a program loads, from its sources."""

from __future__ import annotations

from nqrust.installer.release.source_tree.imports import loaded_by, name_of, touches

SOURCES = {
    "nqrust": "",
    "nqrust.host": "from nqrust.host import port\n",
    "nqrust.host.port": "import os\n",
    "nqrust.host.local": "from nqrust.host.port import Host\n",
    "nqrust.image": "",
    "nqrust.image.disk": "",
    "nqrust.manager": "",
    "nqrust.manager.__main__": "def main():\n    from nqrust.manager import app\n",
    "nqrust.manager.app": "import nqrust.host.port as port\nif port:\n    import nqrust.image.disk\n",
    "nqrust.agent": "",
    "nqrust.agent.__main__": "from nqrust.host.local import LocalHost\n",
}
MANAGER, AGENT = "nqrust.manager.__main__", "nqrust.agent.__main__"


def test_imports_are_followed_everywhere_with_the_packages_around_them() -> None:
    assert loaded_by(MANAGER, SOURCES) == {
        "nqrust", "nqrust.manager", MANAGER, "nqrust.manager.app", "nqrust.host", "nqrust.host.port", "nqrust.image",
        "nqrust.image.disk",
    }  # fmt: skip
    assert "nqrust.image.disk" not in loaded_by(AGENT, SOURCES)


def test_changed_files_touch_the_programs_that_load_them() -> None:
    def touched(path: str) -> tuple[bool, bool]:
        return tuple(touches([path], entry, loaded_by(entry, SOURCES)) for entry in (MANAGER, AGENT))  # type: ignore[return-value]

    assert touched("host/port.py") == (True, True)
    assert touched("host/local.py") == (False, True)
    assert touched("image/disk.py") == (True, False)
    assert touched("image/resources/rcS") == (True, False), "a file of a package"
    assert touched("manager/store/migrations/env.py") == (True, False), "loaded by path"
    assert touched("managers.py") == (False, False)
    assert touched("__init__.py") == (True, True)


def test_names_of_files() -> None:
    assert (name_of("host/port.py"), name_of("host/__init__.py"), name_of("__init__.py")) == (
        "nqrust.host.port", "nqrust.host", "nqrust",
    )  # fmt: skip

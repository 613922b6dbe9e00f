"""What stands in the way of a removal, and what outlives it: configuration without its data, units that failed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.installer.verbs.packages import units
from nqrust.installer.verbs.packages.apt import dead_clusters
from nqrust.installer.verbs.script.prelude import PRELUDE


def cluster(host: FakeHost, version: str, *, data: bool, folder: str = "", said_in: str = "postgresql.conf") -> None:
    folder = folder or f"/var/lib/postgresql/{version}/main"
    host.put(f"/etc/postgresql/{version}/main/postgresql.conf", "port = 5432\ninclude_dir 'conf.d'\n")
    host.put(f"/etc/postgresql/{version}/main/{said_in}", f"data_directory = '{folder}'\t\t# moved\n")
    if data:
        host.put(f"{folder}/PG_VERSION", f"{version}\n")


def test_configuration_without_data_goes_before_its_server() -> None:
    host = FakeHost.debian12()
    cluster(host, "13", data=False)
    cluster(host, "15", data=False)
    cluster(host, "16", data=True)
    cluster(host, "17", data=True, folder="/data/17")
    cluster(host, "18", data=True, folder="/data/18", said_in="conf.d/place.conf")
    dead_clusters.forget(host, ["postgresql-15", "screen"])
    assert not host.exists("/etc/postgresql/15/main")
    assert host.exists("/etc/postgresql/13/main"), "its server stays"
    dead_clusters.forget(host, ["postgresql-common:all"])
    left = [version for version in ("13", "15", "16", "17", "18") if host.exists(f"/etc/postgresql/{version}/main")]
    assert left == ["16", "17", "18"], "those with data stay, wherever it is"


def test_configuration_of_data_that_may_come_back_stays() -> None:
    """Its disk may not be mounted, or nobody can tell where the data is."""
    host = FakeHost.debian12()
    cluster(host, "13", data=False, folder="/data/13")
    cluster(host, "14", data=False)
    host.put_symlink("/data/14", "/var/lib/postgresql/14/main")
    cluster(host, "15", data=False, folder="data")
    host.put("/etc/fstab", "# disks\nUUID=1 /var/lib/postgresql/16 ext4 defaults 0 2\n")
    cluster(host, "16", data=False)
    cluster(host, "17", data=False)
    dead_clusters.forget(host, ["postgresql-common"])
    left = [version for version in ("13", "14", "15", "16", "17") if host.exists(f"/etc/postgresql/{version}/main")]
    assert left == ["13", "14", "15", "16"]


def test_units_of_packages_are_named_with_their_instances() -> None:
    paths = [
        "/lib/systemd/system/postgresql@.service",
        "/usr/lib/systemd/system/screen.service",
        "/lib/systemd/system/a.d",
        "/etc/x",
    ]
    assert units.patterns(paths) == ["postgresql@*.service", "screen.service"]


@pytest.mark.parametrize("systemd", [True, False])
def test_failed_units_are_forgotten_where_there_is_systemd(systemd: bool) -> None:
    host = FakeHost.debian12()
    host.on("systemctl", prefix=True)
    if not systemd:
        host.remove_tree("/run/systemd/system")
    elif not host.exists("/run/systemd/system"):
        host.put("/run/systemd/system/.there", "")
    units.forget(host, ["postgresql@*.service"])
    units.forget(host, [])
    calls = [cmd.argv for cmd in host.commands if cmd.argv[0] == "systemctl"]
    assert calls == ([("systemctl", "reset-failed", "--", "postgresql@*.service")] if systemd else [])


def test_the_script_does_the_same(tmp_path: Path) -> None:
    """The usual folders of these versions do not exist here."""
    rows = {  # version: the file that says where the data is, the data folder, whether it has data
        "91": ("postgresql.conf", "/var/lib/postgresql/91/main", False),
        "92": ("conf.d/place.conf", "/var/lib/postgresql/92/main", False),
        "93": ("postgresql.conf", f"{tmp_path}/var/93", True),
        "94": ("conf.d/place.conf", f"{tmp_path}/var/94", True),
        "95": ("conf.d/place.conf", f"{tmp_path}/var/95", False),
        "96": ("nowhere.conf", "/var/lib/postgresql/96/main", False),
    }
    for version, (file, data, there) in rows.items():
        folder = tmp_path / "etc/postgresql" / version / "main"
        (folder / "conf.d").mkdir(parents=True)
        (folder / "postgresql.conf").write_text("include_dir = 'conf.d'\n#data_directory = '/nowhere'\n")
        with (folder / file).open("a") as conf:
            conf.write(f"data_directory = '{data}' # here\n")
        if there:
            Path(data).mkdir(parents=True)
            (Path(data) / "PG_VERSION").write_text(version)
    text = dead_clusters.FUNCTIONS.replace("/etc/postgresql", str(tmp_path / "etc/postgresql"))
    text = PRELUDE.partition("cd / || exit 1\n")[2] + text
    subprocess.run(["sh", "-eu", "-c", f"{text}\nforget_dead_clusters screen postgresql-common"], check=True)
    assert sorted(path.parent.name for path in (tmp_path / "etc/postgresql").glob("*/main")) == ["93", "94", "95", "96"]

"""What stands in the way of a removal, and what outlives it: configuration without its data, units that failed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.installer.verbs.packages import units
from nqrust.installer.verbs.packages.apt import dead_clusters
from nqrust.installer.verbs.script.prelude import PRELUDE


def cluster(host: FakeHost, version: str, *, data: bool, elsewhere: bool = False) -> None:
    folder = f"/data/{version}" if elsewhere else f"/var/lib/postgresql/{version}/main"
    host.put(f"/etc/postgresql/{version}/main/postgresql.conf", f"port = 5432\ndata_directory = '{folder}'\t\t# moved\n")
    if data:
        host.put(f"{folder}/PG_VERSION", f"{version}\n")


def test_configuration_without_data_goes_before_its_server() -> None:
    host = FakeHost.debian12()
    cluster(host, "13", data=False)
    cluster(host, "15", data=False)
    cluster(host, "16", data=True)
    cluster(host, "17", data=True, elsewhere=True)
    dead_clusters.forget(host, ["postgresql-15", "screen"])
    assert not host.exists("/etc/postgresql/15/main")
    assert host.exists("/etc/postgresql/13/main"), "its server stays"
    dead_clusters.forget(host, ["postgresql-common:all"])
    left = [version for version in ("13", "15", "16", "17") if host.exists(f"/etc/postgresql/{version}/main")]
    assert left == ["16", "17"], "those with data stay, wherever it is"


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
    for version, data in (("15", False), ("16", True)):
        (tmp_path / "etc/postgresql" / version / "main").mkdir(parents=True)
        folder = tmp_path / "var" / version
        folder.mkdir(parents=True)
        (tmp_path / "etc/postgresql" / version / "main/postgresql.conf").write_text(f"data_directory = '{folder}' # here\n")
        if data:
            (folder / "PG_VERSION").write_text(version)
    text = dead_clusters.FUNCTIONS.replace("/etc/postgresql", str(tmp_path / "etc/postgresql"))
    text = PRELUDE.partition("cd / || exit 1\n")[2] + text
    subprocess.run(["sh", "-eu", "-c", f"{text}\nforget_dead_clusters screen postgresql-common"], check=True)
    assert sorted(path.name for path in (tmp_path / "etc/postgresql").glob("*/main")) == ["main"]
    assert (tmp_path / "etc/postgresql/16/main").exists()

"""PostgreSQL that nqr brought, with clusters of others whose data is not in the usual folder."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.package_manager import few as third
from tests.unit.installer.verbs.packages.test_undo_packages import Few

from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.verb import Outcome, Partly, Reverted, UndoContext
from nqrust.installer.verbs.packages import undo as verb
from nqrust.installer.verbs.packages.registry import MANAGERS

SHOP = "/etc/postgresql/15/shop"
UNIT = "/etc/systemd/system/postgresql.service.d/place.conf"


def configured(host: FakeHost, folder: str = SHOP, **files: str) -> None:
    for name, text in files.items():
        host.put(f"{folder}/{name.replace('__', '/')}.conf", text)


def with_data(host: FakeHost, folder: str, number: int = 16390) -> None:
    host.put(f"{folder}/PG_VERSION", "15\n")
    host.put(f"{folder}/base/{number}/1259", "")


def removed(host: FakeHost, monkeypatch: pytest.MonkeyPatch, *packages: str) -> tuple[set[str], Outcome]:
    few = Few({"base", "client", *packages}, {})
    monkeypatch.setitem(MANAGERS, "few", third(few.remover()))
    args: dict[str, Any] = {"manager": "few", "before": ["base"], "manual": []}
    outcome = verb.packages(UndoContext(host, Originals(host, "/var/lib/nqrust-microvm/originals")), args)
    return few.installed - {"base"}, outcome


SAID = {
    "in its configuration": {"postgresql": "data_directory = '/data/pg/shop'\n"},
    "in other letters": {"postgresql": "Data_Directory '/data/pg/shop/'   # larger\n"},
    "in conf.d": {
        "postgresql": "data_directory = '/nowhere'\ninclude_dir = 'conf.d'\n",
        "conf.d__x": "data_directory='/data/pg/shop'\n",
    },
    "in an included file": {"postgresql": "include 'more/x.conf'\nport = 1\n", "more__x": "data_directory = '/data/pg/shop'\n"},
    "two files away": {
        "postgresql": "include_if_exists = 'a.conf'\n",
        "a": f"include '{SHOP}/b.conf'\n",
        "b": "data_directory = '/data/pg/shop'\n",
    },
}
"""Where a cluster says that its data is in /data/pg/shop."""


@pytest.mark.parametrize("package", ["postgresql-15", "postgresql-common"])
@pytest.mark.parametrize("where", SAID)
def test_postgresql_stays_for_data_in_another_folder(monkeypatch: pytest.MonkeyPatch, where: str, package: str) -> None:
    """Debian's scripts drop each configured cluster of a server that goes, with its data, wherever that is."""
    host = FakeHost.debian12()
    configured(host, **SAID[where])
    with_data(host, "/data/pg/shop")
    left, outcome = removed(host, monkeypatch, package)
    assert left == {package} and isinstance(outcome, Partly)
    assert "/data/pg/shop holds data that nqr did not create" in outcome.why


def test_the_own_cluster_goes_wherever_its_data_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """nqr has dropped its database before."""
    host = FakeHost.debian12()
    for name, data in (("main", "/var/lib/postgresql/15/main"), ("moved", "/data/pg/moved")):
        configured(host, f"/etc/postgresql/15/{name}", postgresql=f"data_directory = '{data}'\n")
        with_data(host, data, 5)
    left, outcome = removed(host, monkeypatch, "postgresql-15", "postgresql-common")
    assert left == set() and isinstance(outcome, Reverted)


def test_a_cluster_of_another_version_keeps_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost.debian12()
    configured(host, "/etc/postgresql/16/shop", postgresql="data_directory = '/data/pg/shop'\n")
    with_data(host, "/data/pg/shop")
    assert removed(host, monkeypatch, "postgresql-15")[0] == set()
    assert removed(host, monkeypatch, "postgresql-15", "postgresql-common")[0] == {"postgresql-15", "postgresql-common"}


AWAY = {
    "its disk is not mounted": "data_directory = '/data/pg/shop'\n",
    "its folder is relative": "data_directory = 'shop'\n",
    "no folder is named": "port = 5433\n",
    "it names itself": "include 'postgresql.conf'\ninclude 'postgresql.conf'\n",
}


@pytest.mark.parametrize("why", AWAY)
def test_postgresql_stays_while_data_of_a_cluster_cannot_be_seen(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    host = FakeHost.debian12()
    configured(host, postgresql=AWAY[why])
    left, outcome = removed(host, monkeypatch, "postgresql-15")
    assert left == {"postgresql-15"} and isinstance(outcome, Partly)
    assert f"the cluster of {SHOP}/postgresql.conf has no data in" in outcome.why


@pytest.mark.parametrize(("mounted", "stays"), [(False, True), (True, False)])
def test_a_usual_folder_without_data_counts_while_its_disk_is_not_mounted(
    monkeypatch: pytest.MonkeyPatch, mounted: bool, stays: bool
) -> None:
    host = FakeHost.debian12()
    configured(host, postgresql="data_directory = '/var/lib/postgresql/15/shop'\n")
    host.put("/etc/fstab", "UUID=1 / ext4 defaults 0 1\n#UUID=2 /var/lib ext4\nUUID=3 /var/lib/postgresql/ ext4 defaults 0 2\n")
    line = "29 1 8:2 / /var/lib/postgresql rw shared:1 - ext4 /dev/sdb1 rw\n"
    host.put("/proc/self/mountinfo", line if mounted else "")
    left, outcome = removed(host, monkeypatch, "postgresql-15")
    assert (left == {"postgresql-15"}) == stays and isinstance(outcome, Partly if stays else Reverted)


@pytest.mark.parametrize(
    ("files", "stays"),
    [
        (
            {UNIT: "[Service]\nEnvironment=PGDATA=/data/pg\n", "/data/pg/PG_VERSION": "15", "/data/pg/base/16390/1": ""},
            "/data/pg",
        ),
        ({UNIT: "[Service]\nEnvironment=PGDATA=/data/pg\n", "/data/pg/PG_VERSION": "15", "/data/pg/base/5/1": ""}, ""),
        ({UNIT: '[Service]\nEnvironment="LANG=C" "PGDATA=/data/pg"\n'}, "/data/pg"),
        (
            {
                "/var/lib/pgsql/data/postgresql.conf": "data_directory = '/data/pg'\n",
                "/data/pg/PG_VERSION": "15",
                "/data/pg/base/5/16400": "",
            },
            "/data/pg",
        ),
        ({"/etc/fstab": "/dev/sdb1 /var/lib/pgsql ext4\n"}, "/var/lib/pgsql/data"),
        ({"/var/lib/pgsql/data/postgresql.conf": "port = 5432\n"}, ""),
    ],
    ids=["moved", "moved, and only nqr's", "not mounted", "by its configuration", "home not mounted", "removed"],
)
def test_red_hats_server_stays_for_data_in_another_folder(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], stays: str
) -> None:
    """rpm removes no data, but nothing could read it."""
    host = FakeHost.debian12()
    host.put_directory("/var/lib/pgsql")
    for path, text in files.items():
        host.put(path, text)
    monkeypatch.setattr(
        "tests.unit.installer.verbs.packages.test_undo_packages.clusters", lambda names, before: {"s": "/var/lib/pgsql/data"}
    )
    left, outcome = removed(host, monkeypatch, "s")
    assert left == ({"s"} if stays else set())
    assert not stays or (isinstance(outcome, Partly) and stays in outcome.why)

"""nqr's database in a cluster whose data an administrator moved since, or whose disk is not mounted now."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.postgres.test_undo_postgres import CONF, DATA, RECORD, SERVER, database, debian, last

from nqrust.host.facts import postgres as facts
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.verb import Kept, Partly, Reverted, UndoContext
from nqrust.installer.verbs.postgres import undo as postgres
from nqrust.installer.verbs.postgres.sql import cluster_arguments
from nqrust.installer.verbs.registry import revert
from nqrust.installer.verbs.service.undo import undo_unit

MOVED = "/data/pg/15/main"
UNIT = "/etc/systemd/system/postgresql.service.d/place.conf"


def moved(host: FakeHost, *, said_in: str = CONF) -> FakeHost:
    host.mkdir("/data")
    host.mkdir("/data/pg")
    host.mkdir("/data/pg/15")
    host.rename(DATA, MOVED)
    if said_in == CONF:
        host.put(CONF, f"data_directory = '{MOVED}'\nport = 5432\n")
    else:
        host.put(CONF, f"data_directory = '{DATA}'\ninclude_dir = 'conf.d'\nport = 5432\n")
        host.put(said_in, f"data_directory = '{MOVED}'\n")
    return host


@pytest.mark.parametrize("said_in", [CONF, "/etc/postgresql/15/main/conf.d/place.conf"])
@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_the_database_is_dropped_where_the_data_is_now(said_in: str, copied: bool) -> None:
    host = moved(debian(online=False), said_in=said_in)
    if copied:  # nothing runs on the former folder
        host.put(f"{DATA}/PG_VERSION", "15\n")
    assert database(host) == Reverted()
    assert last(host).argv[:4] == (SERVER, "--single", "-D", MOVED) and f"config_file={CONF}" in last(host).argv


def test_a_running_server_is_asked_at_its_port_after_a_move() -> None:
    host = moved(debian(online=True))
    host.put(CONF, f"data_directory = '{MOVED}'\nport = 5499\n")
    assert database(host) == Reverted()
    assert last(host).argv[0] == "psql" and "5499" in last(host).argv


def test_another_cluster_is_not_taken_for_it() -> None:
    """Somebody removed the cluster, and has another at its port."""
    host = debian(online=False)
    host.remove_tree("/etc/postgresql/15/main")
    host.put("/etc/postgresql/15/shop/postgresql.conf", "data_directory = '/data/pg/shop'\nport = 5432\n")
    host.put("/data/pg/shop/PG_VERSION", "15\n")
    assert "gone already" in getattr(database(host), "note", "") and host.commands == []


@pytest.mark.parametrize("how", ["elsewhere", "at its usual place"])
def test_a_database_whose_disk_is_not_mounted_waits_for_it(how: str) -> None:
    """It would come back with the disk, after nqr forgot it."""
    host = debian(online=False)
    if how == "elsewhere":
        moved(host)
        host.remove_tree(MOVED)
    else:
        host.remove_tree(DATA)
        host.put("/etc/fstab", f"/dev/sdb1 {DATA} ext4 defaults 0 2\n")
    outcome = database(host)
    assert (
        isinstance(outcome, Partly) and "database nexus stays: the cluster of" in outcome.why and "Mount its data" in outcome.why
    )
    assert host.commands == []


def test_a_record_names_the_usual_folder_of_a_cluster_elsewhere() -> None:
    (cluster,) = facts.probe(moved(debian(online=False)))
    recorded = cluster_arguments(cluster)
    assert recorded["data_dir"] == MOVED and recorded["place"] == DATA
    host = debian(online=False)
    host.rename(DATA, "/srv")
    host.put(CONF, "data_directory = '/srv'\n")
    found = postgres.find(host, recorded)
    assert found is not None and found.data_dir == "/srv", "it moved again"
    (usual,) = facts.probe(debian(online=False))
    assert "place" not in cluster_arguments(usual)


@pytest.mark.parametrize("way", ["unit", "configuration"])
def test_red_hats_database_is_dropped_where_the_data_is_now(way: str) -> None:
    host, home = FakeHost.debian12(), "/var/lib/pgsql/data"
    host.add_user("postgres", 26)
    host.put("/usr/bin/postgres", "a program", mode=0o755)
    host.on("/usr/bin/postgres", prefix=True, changes=True)
    host.put_directory("/var/lib/pgsql")
    host.put("/data/pg/PG_VERSION", "15\n")
    if way == "unit":
        host.put(UNIT, "[Service]\nEnvironment=PGDATA=/data/pg\n")
    else:
        host.put(f"{home}/postgresql.conf", "data_directory = '/data/pg'\n")
    recorded: dict[str, Any] = {**RECORD, "data_dir": home}
    assert database(host, recorded) == Reverted()
    assert last(host).argv[:4] == ("/usr/bin/postgres", "--single", "-D", "/data/pg")
    assert (f"config_file={home}/postgresql.conf" in last(host).argv) == (way == "configuration")
    host.remove_tree("/data")
    outcome = database(host, recorded)
    assert isinstance(outcome, Partly) and "has no data in /data/pg now" in outcome.why


def test_a_folder_in_a_unit_is_no_cluster_without_red_hats_packages() -> None:
    """A PostgreSQL that somebody built has a unit of the same name."""
    host = debian(online=False)
    host.put(UNIT, "[Service]\nEnvironment=PGDATA=/usr/local/pgsql/data\n")
    host.put("/usr/local/pgsql/data/PG_VERSION", "17\n")
    assert [cluster.data_dir for cluster in facts.probe(host)] == [DATA]


@pytest.mark.parametrize("number", [5, 16390])
def test_the_server_of_data_that_others_put_in_and_moved_runs_on(number: int) -> None:
    host = moved(debian(online=False))
    host.put(f"{MOVED}/base/{number}/1259", "")
    host.put_directory("/run/systemd/system")
    host.on("systemctl", prefix=True, changes=True)
    undo = undo_unit("systemd", "postgresql@15-main.service", enabled=True, active=False, cluster=DATA, found=True)
    outcome = revert(UndoContext(host, Originals(host, "/var/lib/o")), undo)
    stopped = [cmd for cmd in host.commands if "stop" in cmd.argv]
    assert bool(stopped) == (number == 5) and (number == 5 or (isinstance(outcome, Kept) and f"data in {MOVED}" in outcome.why))

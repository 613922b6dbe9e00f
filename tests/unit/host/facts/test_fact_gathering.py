"""Probes on machines in memory that look like real ones, and on the machine of the tests."""

from __future__ import annotations

import pytest
from tests import places
from tests.fakes.host import FakeHost

from nqrust.host.errors import PathError, PathMissing
from nqrust.host.facts import kvm, network
from nqrust.host.facts.gather import gather
from nqrust.host.facts.model import Cpu, ListeningPort
from nqrust.host.port import Completed
from nqrust.installer.verbs.packages.registry import installed

TABLES = places.TABLES / "facts"


def table(name: str) -> str:
    return (TABLES / name).read_text()


def furnished() -> FakeHost:
    """Debian 12 without iproute2, with a bridge, sockets and a PostgreSQL cluster."""
    host = FakeHost.debian12()
    for name in ("tcp", "tcp6", "udp", "route", "if_inet6", "fib_trie"):
        host.put(f"/proc/net/{name}", table(f"proc-net-{name}"))
    host.put("/proc/cpuinfo", table("cpuinfo-amd-guest"))
    host.put("/proc/meminfo", table("meminfo"))
    host.put("/proc/77/comm", "nginx\n")
    host.put_symlink("socket:[128849]", "/proc/77/fd/5")
    host.put("/proc/88/comm", "postgres\n")
    for name, flags in (("lo", "0x9"), ("fcbr0", "0x1003"), ("ve0", "0x1003")):
        host.put(f"/sys/class/net/{name}/ifindex", "1\n")
        host.put(f"/sys/class/net/{name}/flags", f"{flags}\n")
        host.put(f"/sys/class/net/{name}/address", "02:00:00:00:00:01\n")
    host.put_directory("/sys/class/net/fcbr0/bridge")
    host.put_directory("/sys/class/net/ve0/device")
    host.put_symlink("../fcbr0", "/sys/class/net/ve0/master")
    host.put("/var/lib/dpkg/status", "Package: postgresql-15\nStatus: install ok installed\n\n")
    host.add_user("postgres", 105)
    host.put_directory("/var/lib/postgresql/15/main", owner="postgres", group="postgres")
    host.put(
        "/etc/postgresql/15/main/postgresql.conf",
        "data_directory = '/var/lib/postgresql/15/main'\nport = 5433\n"
        "include_dir = 'conf.d'\nunix_socket_directories = '/run/pg'\n",
    )
    host.put("/var/lib/postgresql/15/main/postmaster.pid", "88\n/var/lib/postgresql/15/main\n1\n5433\n/run/pg\n")
    return host


def test_facts_are_gathered_without_any_program() -> None:
    host = furnished()
    before = host.state()
    facts = gather(host, paths_for_disk=("/opt", "/srv/fc"), packages=installed(host))
    assert host.commands == [] and host.state() == before
    assert (facts.os.id, facts.os.version_id, facts.supervisor, facts.container) == ("debian", "12", "systemd", "")
    assert (facts.kernel.version, facts.kernel.machine, facts.kernel.modules_loadable) == ((6, 1), "x86_64", False)
    assert facts.memory.total_mib == 24105
    assert ListeningPort("tcp", "10.0.0.1", 18080, 77, "nginx", 0) in facts.ports
    assert ListeningPort("udp", "10.0.0.1", 67, 0, "", 0) in facts.ports
    assert facts.network.uplink == "ve0"
    links = {link.name: link for link in facts.network.links}
    assert links["fcbr0"].kind == "bridge" and "10.0.0.1/24" in links["fcbr0"].addresses
    assert links["ve0"].up and links["ve0"].master == "fcbr0"
    (cluster,) = facts.postgres
    assert (cluster.version, cluster.name, cluster.port, cluster.online) == (15, "main", 5433, True)
    assert (cluster.owner, cluster.socket_dir) == ("postgres", "/run/pg")
    assert facts.packages == {"postgresql-15"}
    assert [one.path for one in facts.file_systems] == ["/opt", "/srv/fc"]
    assert facts.hostname == "fake"


def test_a_bare_machine_gives_defaults() -> None:
    facts = gather(FakeHost())
    assert (facts.os.id, facts.kernel.version, facts.supervisor) == ("linux", (0, 0), "none")
    assert facts.ports == () and facts.postgres == () and facts.network.links == ()


def test_a_cluster_whose_server_died_is_offline() -> None:
    host = furnished()
    host.put("/proc/88/comm", "sshd\n")  # the number was given to another
    assert gather(host).postgres[0].online is False


def test_kvm_probe_opens_the_device() -> None:
    cpu = Cpu(1)
    host = FakeHost.debian12()
    assert kvm.probe(host, cpu).reason == "/dev/kvm is not there"
    host.add_group("kvm", 109)
    host.put_device("/dev/kvm", mode=0o660, group="kvm")
    found = kvm.probe(host, cpu)
    assert (found.present, found.usable, found.mode, found.group) == (True, True, 0o660, "kvm")
    for error, words in (
        (PathError("/dev/kvm", "Permission denied", 13), "Permission denied"),
        (PathMissing("/dev/kvm", "gone", 2), "no driver"),
    ):
        host.kvm_version = error
        found = kvm.probe(host, cpu)
        assert found.present and not found.usable and words in found.reason
    host.kvm_version = 11
    assert "11" in kvm.probe(host, cpu).reason


def test_firewall_program_is_detected() -> None:
    host = FakeHost.debian12()
    assert network.probe(host, {}).firewall_managers == ()
    host.put("/etc/ufw/ufw.conf", "ENABLED=no\n")
    assert network.probe(host, {1: "dockerd"}).firewall_managers == ("docker",)
    host.put("/etc/ufw/ufw.conf", "# x\nENABLED=yes\n")
    assert network.probe(host, {1: "dockerd", 2: "firewalld"}).firewall_managers == ("firewalld", "ufw", "docker")


def test_name_servers_behind_the_stub() -> None:
    host = FakeHost.debian12()
    host.put("/etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\n")
    assert network.probe(host, {}).nameservers == ("127.0.0.53",)
    host.put("/run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\nnameserver 2001:db8::53\n")
    assert network.probe(host, {}).nameservers == ("192.0.2.53", "2001:db8::53")


def test_an_ip_program_without_json_is_no_obstacle() -> None:
    host = furnished()
    host.on("ip", prefix=True, answer=Completed((), 1, "", "ip: unrecognized option: json"))
    links = {link.name: link for link in network.probe(host, {}).links}
    assert "10.0.0.1/24" in links["fcbr0"].addresses


@pytest.mark.parametrize(
    ("conf", "data", "link", "doubt"),
    [
        ("postgres", "postgres", "", ""),
        ("root", "postgres", "", ""),
        ("root", "alice", "", ""),
        ("alice", "alice", "", ""),
        ("postgres", "alice", "", "/etc/postgresql/15/main/postgresql.conf belongs to postgres"),
        ("postgres", "root", "", "/var/lib/postgresql/15/main belongs to root"),
        ("root", "root", "", "/var/lib/postgresql/15/main belongs to root"),
        ("postgres", "postgres", "root", ""),
        ("postgres", "postgres", "postgres", ""),
        ("root", "alice", "postgres", "/var/lib/postgresql/15/main belongs to postgres"),
        ("root", "root", "postgres", "/srv/data belongs to root"),
    ],
)
def test_a_cluster_that_its_owner_may_have_invented(conf: str, data: str, link: str, doubt: str) -> None:
    """Who may say where the data is could have nqr work as the owner of any folder."""
    host = furnished()
    host.add_user("alice", 1000)
    uids = {"root": 0, "postgres": 105, "alice": 1000}
    host.tree.lookup("/etc/postgresql/15/main/postgresql.conf").uid = uids[conf]
    folder = "/var/lib/postgresql/15/main"
    host.tree.lookup(folder).uid = uids[data]
    if link:
        host.rename(folder, "/srv/data")
        host.put_symlink("/srv/data", folder)
        host.tree.lookup(folder, follow=False).uid = uids[link]
    (cluster,) = gather(host).postgres
    assert cluster.owner == data and doubt in cluster.doubt and bool(doubt) == bool(cluster.doubt)


def test_the_last_file_that_says_where_the_data_is_counts() -> None:
    host = furnished()
    host.add_user("alice", 1000)
    host.put("/home/alice/data/postmaster.pid", "88\n")
    host.tree.lookup("/home/alice/data").uid = 1000
    host.put("/etc/postgresql/15/main/conf.d/a.conf", "data_directory = '/home/alice/data'\n", owner="postgres")
    (cluster,) = gather(host).postgres
    assert "conf.d/a.conf belongs to postgres, and its data folder /home/alice/data to alice" in cluster.doubt


def test_included_files_of_a_cluster_count_in_their_order() -> None:
    host, folder = furnished(), "/etc/postgresql/15/main"
    host.put(f"{folder}/postgresql.conf", "include 'a.conf'\nport = 1\nInclude_Dir more\ninclude_if_exists = '/nowhere'\n")
    host.put(f"{folder}/a.conf", "port = 2\ndata_directory = '/srv/a'\nunix_socket_directories = '/run/a'\n")
    host.put(f"{folder}/more/1.conf", "port = 3\n")
    host.put(f"{folder}/more/2.conf", "include '../last.conf'\n")
    host.put(f"{folder}/more/.3.conf", "port = 4\n")
    host.put(f"{folder}/last.conf", "port = 5\ndata_directory = '/srv/last/'\n")
    (cluster,) = gather(host).postgres
    assert (cluster.port, cluster.data_dir, cluster.socket_dir) == (5, "/srv/last", "/run/a")
    assert (cluster.conf, cluster.place) == (f"{folder}/postgresql.conf", "/var/lib/postgresql/15/main")


def test_each_file_that_leads_to_the_data_has_to_be_of_its_owner() -> None:
    """One who can include a file of root could have nqr work as another user."""
    host = furnished()
    host.add_user("alice", 1000)
    host.put("/etc/other.conf", "data_directory = '/home/alice/data'\n")
    host.put("/home/alice/data/PG_VERSION", "15\n")
    host.tree.lookup("/home/alice/data").uid = 1000
    host.put("/etc/postgresql/15/main/postgresql.conf", "include '/etc/other.conf'\n", owner="postgres")
    (cluster,) = gather(host).postgres
    assert "postgresql.conf belongs to postgres, and its data folder /home/alice/data to alice" in cluster.doubt


@pytest.mark.parametrize(
    ("there", "data"),
    [
        ({"/var/lib/postgresql/15/main/PG_VERSION": "15"}, "/var/lib/postgresql/15/main"),
        ({"/etc/postgresql/15/main/PG_VERSION": "15"}, "/etc/postgresql/15/main"),
        ({}, "/etc/postgresql/15/main"),
    ],
    ids=["pg_createcluster was killed", "beside its configuration", "unknown"],
)
def test_a_cluster_whose_configuration_does_not_say_where_its_data_is(there: dict[str, str], data: str) -> None:
    host = furnished()
    host.put("/etc/postgresql/15/main/postgresql.conf", "port = 5432\n")
    for path, text in there.items():
        host.put(path, text)
    assert [cluster.data_dir for cluster in gather(host).postgres] == [data]
    host.put_symlink("/srv/link", "/etc/postgresql/15/main/pgdata")
    if not there:
        assert [cluster.data_dir for cluster in gather(host).postgres] == ["/srv/link"]

"""A database server: PostgreSQL with databases and roles of other programs, and a second cluster on the next port."""

from tests.hosts.bases.model import BaseMachine

SETUP = """
start() { [ -d /run/systemd/system ] || pg_ctlcluster 15 "$1" start; }
sql() { runuser -u postgres -- psql -qv ON_ERROR_STOP=1 "$@"; }
pg_createcluster 15 reports --port 5433 >/dev/null
start main; start reports
[ ! -d /run/systemd/system ] || systemctl start postgresql@15-reports
sql -p 5432 -c "create role shop login password 'its'" -c 'create database shop owner shop' -c 'create database archive'
sql -p 5432 shop -c 'create table orders (line text); insert into orders values ($$forty-two$$); alter table orders owner to shop'
sql -p 5433 -c "create role reader login password 'its'" -c 'create database nightly owner reader'
"""
# Without an init system nothing starts a server after a reboot: there it is the administrator, and the test.
START = """
[ -d /run/systemd/system ] || for name in main reports; do
  pg_lsclusters -h 15 $name | grep -q ' online ' || pg_ctlcluster 15 $name start
done
"""
NEIGHBOUR = """
for port in 5432 5433; do
  runuser -u postgres -- psql -Atp $port -c "select rolname, rolcanlogin, coalesce(rolpassword, '-') from pg_authid where rolname in ('shop', 'reader')" \
    -c "select datname, pg_get_userbyid(datdba), datacl from pg_database where datname not in ('nexus', 'postgres', 'template0', 'template1') order by 1"
done
runuser -u postgres -- psql -Atp 5432 shop -c 'select * from orders'
for name in main reports; do
  pg_lsclusters -h | grep -w $name
  cut -d' ' -f1,22 /proc/$(head -1 /var/lib/postgresql/15/$name/postmaster.pid)/stat
done
"""

MACHINE = BaseMachine(
    name="postgres",
    says="Debian 12 with PostgreSQL in use: databases of other programs, and a second cluster on port 5433",
    packages=("iproute2", "ca-certificates", "python3", "sudo", "postgresql"),
    setup=SETUP,
    ready=f"{START}\npg_isready -qp 5432 && pg_isready -qp 5433",
    neighbour=NEIGHBOUR,
    meanwhile="[ ! -d /run/systemd/system ] || systemctl restart postgresql@15-reports",
)

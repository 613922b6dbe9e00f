"""Queries that sqlx checks against a database while a tree compiles, and a PostgreSQL of the build's own that answers them.

The server runs in the scratch folder, without privileges, and listens on a Unix socket there. The tree's migrations make its
tables, by the SQLx CLI in the version of the tree's sqlx. All of it goes with the scratch folder. See "Offline mode" in the
documentation of sqlx's macros, initdb(1) and pg_ctl(1).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.source_tree.cargo_workspace import Workspace
from nqrust.installer.release.source_tree.files import files
from nqrust.installer.release.source_tree.rust import Cargo
from nqrust.installer.release.source_tree.workplace import Workplace

_CHECKED = re.compile(r"\bquery(?:_as|_scalar|_file|_file_as|_file_scalar)?!\s*[(\[{]")
"""sqlx's macros that ask a database while they compile. Their unchecked forms have other names."""
_USER = "build"


def asking(host: Host, tree: str, workspace: Workspace) -> str:
    """Return a file of the tree whose queries need a database, or "". Reads only. Raises HostError."""
    if not workspace.sqlx or workspace.sqlx_offline:
        return ""
    sources = (path for path, relative in files(host, tree) if relative.endswith(".rs"))
    return next((path for path in sources if _CHECKED.search(host.read_text(path))), "")


def server_programs(host: Host) -> str:
    """Return the folder of the newest PostgreSQL server on this host, or ""."""
    found = [posixpath.dirname(path) for path in host.glob("/usr/lib/postgresql/*/bin/initdb")]
    plain = host.which("initdb")
    return max(found, key=_version) if found else posixpath.dirname(plain) if plain else ""


def need_server(host: Host, asks: str, *, comes: bool = False) -> None:
    """Raise ReleaseError NQR-REL-080 if the file `asks` needs a database that this host cannot run. `comes`: the install brings one."""
    if asks and not comes and not server_programs(host):
        raise ReleaseError(
            "NQR-REL-080",
            f"{asks} checks its queries while it compiles, and there are neither prepared queries (.sqlx) nor a PostgreSQL server.",
            "Run `cargo sqlx prepare --workspace` in the tree on a machine with its database, or install PostgreSQL here, then run again.",
        )


@contextmanager
def database(place: Workplace, workspace: Workspace, cargo: Cargo) -> Iterator[str]:
    """Run a PostgreSQL with the tables of the tree, and yield its address. Raises ReleaseError."""
    programs, data = server_programs(place.host), f"{place.folder}/home/postgres"
    place.name_user(_USER)
    place.progress("starting a database for the queries", 0.05)
    options = ("--username", _USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
    place.run(f"{programs}/initdb", "--pgdata", data, *options, cwd=place.folder)
    control = (f"{programs}/pg_ctl", "--pgdata", data, "--wait")
    # The socket is in the folder of the data, which only the build can enter.
    place.run(*control, "--log", f"{data}/log", "--options", "-k . -c listen_addresses= -c fsync=off", "start", cwd=place.folder)
    try:
        address = f"postgres://{_USER}@localhost/postgres?host={quote(data, safe='/')}"
        if workspace.migrations:
            _migrate(place, workspace, cargo, address)
        yield address
    finally:
        place.run(*control, "--mode", "immediate", "stop", cwd=place.folder)


def _migrate(place: Workplace, workspace: Workspace, cargo: Cargo, address: str) -> None:
    tools = f"{place.folder}/home/tools"
    place.progress("bringing the SQLx CLI", 0.06)
    # As many features as a server on a socket needs.
    wanted = ("sqlx-cli", "--version", workspace.sqlx, "--no-default-features", "--features", "postgres", "--locked")
    cargo.run(place, "install", *wanted, "--root", tools)
    place.progress("making the tables for the queries", 0.09)
    place.run(f"{tools}/bin/sqlx", "migrate", "run", "--source", workspace.migrations, env={"DATABASE_URL": address})


def _version(folder: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", folder))

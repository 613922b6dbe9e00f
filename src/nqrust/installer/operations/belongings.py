"""Things of users on this host that a rollback would remove.

An uninstall has an option for each kind. A rollback has none, so it leaves them. Things of nqr itself do not count: its images, its
first administrator, and the VM with which it proves the platform.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property

from nqrust.contract.names import CANARY_PREFIX, CANARY_TAG, canary_owner
from nqrust.contract.paths import Layout
from nqrust.host.content import content
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host, Kind
from nqrust.installer import secret_store
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.spared import Spared
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.operations.site import Site
from nqrust.installer.reporting.wording import counted
from nqrust.installer.verbs.packages.registry import of_postgres
from nqrust.installer.verbs.postgres.sql import Connection, literal
from nqrust.installer.verbs.postgres.undo import find
from nqrust.installer.verbs.service.unit import Service

_KINDS: Mapping[str, tuple[str, str]] = {
    **{
        table: ("VM", f"coalesce(to_jsonb(one) ->> 'name', '') NOT LIKE {literal(CANARY_PREFIX + '%')}")
        for table in ("vms", "vm")
    },
    **dict.fromkeys(("volumes", "volume"), ("volume", "true")),
    **dict.fromkeys(("templates", "template"), ("template", "true")),
    **dict.fromkeys(("hosts", "host"), ("host", "true")),
    "users": ("user", "true"),
}
"""Table -> the name of what it holds, and which rows count. Releases in upstream's form name a table after one row."""
_SECONDS = 10
_DISKS = (".ext4", ".img", ".qcow2", ".raw")


class Belongings:
    """It looks once, before a rollback stops anything."""

    def __init__(self, site: Site) -> None:
        self._site, self._host = site, site.host
        self._databases: dict[str, str] = {}

    @property
    def spared(self) -> Spared:
        return Spared(self._users, self._copies, self._packages)

    def _users(self, undo: Undo) -> str:
        if undo.verb == "database":
            name = str(undo.args["name"])
            if name not in self._databases:
                self._databases[name] = self._in_database(undo, name)
            return self._databases[name]
        whole = undo.verb == "contents" or (undo.verb == "directory" and undo.args.get("tree"))
        return self._in_folder(str(undo.args["path"])) if whole and undo.retain is Retain.data else ""

    def _copies(self, undo: Undo) -> str:
        if undo.retain is not Retain.database:
            return ""
        path = str(undo.args.get("path", ""))
        if undo.verb == "file" and path.endswith(".dump"):
            return f"{path}, the copy of the database from before its migration, stays" if self._host.exists(path) else ""
        held = next((name for name, what in self._databases.items() if what), "")
        return f"{path or undo.verb.replace('_', ' ')} stays with the database {held}" if held else ""

    def _packages(self) -> frozenset[str]:
        return of_postgres(self._host) if any(self._databases.values()) else frozenset()

    # --- folders
    def _in_folder(self, path: str) -> str:
        found = [phrase for layout in self._layouts for phrase in self._of(layout, path)]
        if not self._layouts and self._children(path):  # settings that this nqr cannot read
            found = [f"what {path} holds"]
        return " and ".join(dict.fromkeys(found))

    def _of(self, layout: Layout, path: str) -> Iterator[str]:
        for folder, what, names in (
            (layout.vms_dir, "VM", self._vms),
            (layout.volumes_dir, "volume", self._children),
            (layout.image_dir, "image", self._images),
        ):
            if not f"{folder}/".startswith(f"{path}/"):
                continue
            try:
                number = sum(1 for _ in names(folder))
            except HostError as error:
                yield f"what {folder} holds, which cannot be read ({error})"
                continue
            if number:
                yield f"{counted(number, what)} in {folder}"

    @cached_property
    def _layouts(self) -> tuple[Layout, ...]:
        return tuple(dict.fromkeys(settings.layout for settings in self._site.former_settings))

    def _vms(self, folder: str) -> Iterator[str]:
        for path in self._children(folder):
            try:
                name = str(json.loads(self._host.read_bytes(f"{path}/vm.json"))["name"])
            except (HostError, ValueError, KeyError, TypeError):
                name = ""  # a folder without a record may have a disk that is worth something
            if not canary_owner(name, (CANARY_TAG,)) and (name or self._children(path)):
                yield path

    def _images(self, folder: str) -> Iterator[str]:
        ours = {undo.args.get("path") for entry in self._site.receipt.entries for undo in entry.undo}
        for path in self._children(folder):
            stat = self._host.stat(path)
            if path in ours or stat is None:
                continue
            if stat.kind is Kind.directory or path.endswith(_DISKS):
                yield path

    def _children(self, folder: str) -> list[str]:
        try:
            names = content(self._host, folder)
        except PathMissing:
            return []
        return [f"{folder}/{name}" for name in names if not name.startswith(".")]

    # --- database
    def _in_database(self, undo: Undo, name: str) -> str:
        if not self._served:
            return ""
        cluster = find(self._host, undo.args["cluster"])
        if cluster is None:
            return ""
        try:
            rows = _rows(self._host, self._login(cluster.port, name))
        except (HostError, NqrError, ValueError):
            return f"what the database {name} holds, which cannot be asked now"
        found = [counted(number, _KINDS[table][0]) for table, number in rows.items() if number > self._by_nqr(table)]
        return f"{', '.join(found)} in the database {name}" if found else ""

    @cached_property
    def _served(self) -> bool:
        """Whether a service of the platform may have used the database, ever: an uninstall that failed may have removed it."""
        begun = (record.body["step"]["kind"] for record in self._site.journal.records if record.type == "begin")
        return Service.kind in begun

    def _by_nqr(self, table: str) -> int:
        """Return how many rows an install makes itself: its first user, and the host that it is on."""
        on_this = any(settings.has_agent for settings in self._site.former_settings)
        return {"hosts": int(on_this), "host": int(on_this), "users": 1}.get(table, 0)

    def _login(self, port: int, name: str) -> Connection:
        """Return the login of the manager: a superuser would run what that role has put into the database. Raises HostError,
        JournalError."""
        secrets = secret_store.load(self._host)
        users = [one.database.user for one in self._site.former_settings if one.database.name == name]
        if secrets is None or not users:
            raise HostError(f"the password for the database {name} is not known")
        return Connection("127.0.0.1", port, name, users[-1], secrets.db_password)


def _rows(host: Host, login: Connection) -> dict[str, int]:
    there = login.run(host, "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = 'public';").split()
    asked = [table for table in _KINDS if table in there]
    counts = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM public.{table} one WHERE {_KINDS[table][1]}" for table in asked)
    # The tables are the manager's, which may be hostile by now.
    lines = login.run(host, f"SET statement_timeout = '{_SECONDS}s'; {counts};").splitlines() if asked else []
    return {table: int(number) for table, _, number in (line.partition("|") for line in lines)}

"""pg_hba.conf: who may sign in to a cluster, and how (PostgreSQL, The pg_hba.conf File). The first line that fits counts."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from nqrust.host.facts.model import PostgresCluster
from nqrust.host.port import Host, Kind
from nqrust.host.way import way
from nqrust.installer.engine.errors import StepConflict
from nqrust.installer.engine.step import Conflict, Inspection, Needed, Origin, Prepared
from nqrust.installer.verbs.file.block import Block
from nqrust.installer.verbs.file.undo import as_text, bytes_of, text_of
from nqrust.installer.verbs.postgres.sql import as_owner, cluster_arguments, literal
from nqrust.installer.verbs.postgres.undo import RELOAD, undo_rules

LOOPBACK = ("127.0.0.1/32", "::1/128")
_FIRST_WORDS = {
    *("local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"),
    *("include", "include_if_exists", "include_dir"),
}


@dataclass(frozen=True)
class HbaFile:
    """The file of a running cluster. `path`: without links. `faults`: lines for which the server reads none of it. `late`: changed
    since the server read it. `unasked`: addresses from which a line lets the role in without its password, as the file writes them.
    `sessions`: the role has some through the socket. `superuser`: it is one."""

    path: str
    faults: tuple[str, ...] = ()
    late: bool = False
    unasked: tuple[str, ...] = ()
    sessions: bool = False
    superuser: bool = False
    refused: Conflict | None = field(default=None, repr=False)

    def inspect(self, host: Host, block: Block) -> Inspection:
        if self.faults:
            return Conflict(
                "NQR-DB-114",
                f"PostgreSQL does not read its rules of who may sign in: {'; '.join(self.faults[:3])}.",
                "Correct these lines, then run the same command again.",
            )
        if self.refused is not None:
            return self.refused
        found = block.inspect(host)
        if isinstance(found, (Needed, Conflict)):
            return found
        return Needed((f"have PostgreSQL read {self.path}",)) if self.late else found

    def prepare(self, host: Host, cluster: PostgresCluster, block: Block) -> Prepared:
        self._check()
        (record,) = block.prepare(host).undo
        undo = undo_rules(cluster_arguments(cluster), block.path, block.marker, prior=str(record.args.get("prior", "")))
        return Prepared(Origin.modified, (undo,))

    def apply(self, host: Host, cluster: PostgresCluster, block: Block) -> None:
        self._check()
        # The file and its folders belong to the cluster's owner, who may put anything in their place since.
        host.edit_file(block.path, lambda before: _edited(block, before), follow=False)
        # The server reads the rules before it accepts another connection.
        as_owner(host, cluster, RELOAD)

    def _check(self) -> None:
        if self.refused is not None:
            raise StepConflict(self.refused.code, self.refused.why, self.refused.cure)


def _edited(block: Block, before: bytes) -> bytes:
    text = as_text(before)
    if not _has_rules_only(text):
        refused = _no_rules(block.path)
        raise StepConflict(refused.code, refused.why, refused.cure)
    return bytes_of(block.wanted(text))


def through_the_socket(role: str) -> str:
    return f"usename = {literal(role)} AND backend_type = 'client backend' AND client_addr IS NULL"


def look(host: Host, cluster: PostgresCluster, role: str) -> HbaFile:
    """Return what the file says now about the role. The view reads the file, not what the server has read. The host may have one of
    the addresses, and with it each of its accounts."""
    path, *lines = as_owner(
        host,
        cluster,
        "SHOW hba_file;\n"
        f"SELECT 'session' FROM pg_stat_activity WHERE {through_the_socket(role)} LIMIT 1;\n"
        f"SELECT 'superuser' FROM pg_roles WHERE rolsuper AND rolname = {literal(role)};\n"
        # A time to come would be late forever.
        "SELECT 'late' FROM pg_stat_file(current_setting('hba_file')) AS file"
        " WHERE file.modification > pg_conf_load_time() AND file.modification <= now();\n"
        # The column with the name of the file is there from version 16 on, with files that include others.
        "SELECT 'fault', coalesce(to_jsonb(rule) ->> 'file_name', current_setting('hba_file')), line_number, error"
        " FROM pg_hba_file_rules AS rule WHERE error IS NOT NULL;\n"
        "SELECT 'unasked', address, netmask FROM pg_hba_file_rules WHERE type LIKE 'host%'"
        " AND auth_method IN ('trust', 'ident') AND database <> ARRAY['replication'] AND EXISTS (SELECT FROM"
        f" unnest(user_name) AS name WHERE name IN ('all', {literal(role)}) OR name LIKE '+%' OR name LIKE '/%')"
        " ORDER BY line_number;",
    ).splitlines()
    rows = [line.split("|", 3) for line in lines]
    open_to = [(row[1], row[2]) for row in rows if row[0] == "unasked"]
    own = LOOPBACK if any(_has_loopback(*each) for each in open_to) else ()
    written = (_written(*each) for each in open_to)
    real, refused = _resolved(host, cluster, path)
    return HbaFile(
        real,
        faults=tuple(f"{row[1]}, line {row[2]}: {row[3]}" for row in rows if row[0] == "fault" and len(row) == 4),
        late=["late"] in rows,
        unasked=(*own, *dict.fromkeys(each for each in written if each not in LOOPBACK)),
        sessions=["session"] in rows,
        superuser=["superuser"] in rows,
        refused=refused,
    )


def _has_loopback(address: str, netmask: str) -> bool:
    """Return whether a line's addresses include one of loopback. `address`: also `all`, `samenet` or a host's name."""
    try:
        network, mask = ipaddress.ip_address(address), int(ipaddress.ip_address(netmask))
    except ValueError:
        return True
    own = (ipaddress.ip_interface(each).ip for each in LOOPBACK)
    return any(each.version == network.version and int(each) & mask == int(network) & mask for each in own)


def _written(address: str, netmask: str) -> str:
    """`address`: also `all`, `samenet`, `samehost` or a host's name."""
    if netmask:
        bits = int(ipaddress.ip_address(netmask))
        written = f"{address}/{bin(bits).count('1')}"
        return written if ipaddress.ip_network(written, strict=False).netmask == ipaddress.ip_address(netmask) else "all"
    return address if re.fullmatch(r"[\w.-]+", address, re.ASCII) else "all"


def _resolved(host: Host, cluster: PostgresCluster, path: str) -> tuple[str, Conflict | None]:
    """Return the path without links, and why nqr does not write there. The owner of a part of the way decides where it leads."""
    owners = ("root", cluster.owner or "postgres")
    parts = list(way(host, path))
    end, stat = parts[-1]
    has_rules = stat.kind is Kind.file and _has_rules_only(text_of(host, end))
    if not any(stat.kind is Kind.symlink for _, stat in parts):
        return path, None if has_rules else _no_rules(path)
    why = ""
    for part, each in parts:
        is_open = each.mode & 0o002 or (each.mode & 0o020 and each.group not in owners)
        if each.owner not in owners:
            why = f"{part} on its way belongs to {each.owner}"
        elif is_open and each.kind is not Kind.symlink and not each.mode & 0o1000:
            why = f"other users can write {part} on its way"
    if not why and not has_rules:
        why = f"{end} is no such file"
    if not why:
        return end, None
    cure = f"Replace {path} by a copy of its target, or make the way belong to root, then run the same command again."
    return end, Conflict("NQR-DB-113", f"{path} is a link, and {why}. nqr must add rules for its database role there.", cure)


def _no_rules(path: str) -> Conflict:
    return Conflict(
        "NQR-DB-113",
        f"{path} is not a plain file with rules of who may sign in. nqr must add rules for its database role there.",
        "See that hba_file of that cluster is right, then run the same command again.",
    )


def _has_rules_only(text: str) -> bool:
    """Return whether a file has the form of pg_hba.conf: the cluster's owner may have named any file of root. The server let nqr in,
    so there is a rule."""
    lines = [line.split() for line in text.replace("\\\n", " ").split("\n")]
    words = {line[0].strip('"') for line in lines if line and not line[0].startswith("#")}
    return bool(words) and words <= _FIRST_WORDS

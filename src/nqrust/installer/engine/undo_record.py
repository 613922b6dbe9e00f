"""The form of an undo record: a verb, its arguments, and what must be asked before it runs.

Records are JSON in the journal and are read by every later version, so a verb's meaning never changes; a new meaning
is a new verb. Arguments are JSON values only and never a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Retain(str, Enum):
    """What uninstall keeps unless a flag says otherwise. A rollback of a run that created the thing ignores this."""

    nothing = ""
    data = "data"  # VM disks, images: removed with --purge-data
    database = "database"  # role and database: removed with --drop-database
    packages = "packages"  # removed unless --keep-packages (or while what is kept still needs them)


@dataclass(frozen=True)
class Undo:
    """One thing to take back."""

    verb: str
    args: dict[str, Any] = field(default_factory=dict)
    retain: Retain = Retain.nothing

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {"verb": self.verb, "args": self.args}
        if self.retain is not Retain.nothing:
            record["retain"] = self.retain.value
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Undo:
        return cls(record["verb"], dict(record["args"]), Retain(record.get("retain", "")))


# Constructors, so that steps cannot misspell an argument. The verbs that carry them out are in verbs.py.


def undo_file(path: str, *, ours_sha256: str | None, retain: Retain = Retain.nothing) -> Undo:
    """Put back what was at `path` before (the engine fills in `prior` and keeps its content) or remove the file.

    `ours_sha256`: the content we leave there; if something else is found when reverting, someone changed it since,
    and it is moved aside and reported. None: whatever is there counts as ours (files that our services rewrite).
    """
    return Undo("file", {"path": path, "ours": ours_sha256}, retain)


def undo_block(path: str, marker: str) -> Undo:
    """Take our marked block out of a shared file; remove the file if we created it and nothing else is in it."""
    return Undo("block", {"path": path, "marker": marker})


def undo_block_text(path: str, marker: str, *, prior: str) -> Undo:
    """Give our marked block in a shared file the text that it had before, markers included."""
    return Undo("block_text", {"path": path, "marker": marker, "prior": prior})


def undo_directory(path: str, *, tree: bool = False, retain: Retain = Retain.nothing) -> Undo:
    """Remove a directory that we created: only when empty, or (`tree`) with all that is in it."""
    return Undo("directory", {"path": path, "tree": tree}, retain)


def undo_contents(path: str, *, retain: Retain = Retain.nothing) -> Undo:
    """Empty a directory that was there before us, and empty; it stays."""
    return Undo("contents", {"path": path}, retain)


def undo_mode(path: str, mode: int, owner: str, group: str) -> Undo:
    """Give a path its previous mode (12 bits) and owners back."""
    return Undo("mode", {"path": path, "mode": mode, "owner": owner, "group": group})


def undo_symlink(path: str, *, ours: str, prior: str | None) -> Undo:
    """Point a symlink back to `prior`, or remove it; left alone when it no longer points to `ours`."""
    return Undo("symlink", {"path": path, "ours": ours, "prior": prior})


def undo_user(name: str) -> Undo:
    return Undo("user", {"name": name})


def undo_group(name: str) -> Undo:
    return Undo("group", {"name": name})


def undo_member(group: str, user: str) -> Undo:
    return Undo("member", {"group": group, "user": user})


def undo_packages(manager: str, before: list[str], marks: list[str], config_only: list[str]) -> Undo:
    """Remove the packages that are installed now and were not in `before` (names with architecture), restore the
    auto/manual `marks` of those that were; and what the removed packages left behind (users, groups, folders). Of those in
    `config_only` the configuration was there before, and stays."""
    args = {"manager": manager, "before": before, "manual": marks, "config_only": config_only}
    return Undo("packages", args, Retain.packages)


def undo_link(name: str) -> Undo:
    """Delete a network link that we created."""
    return Undo("link", {"name": name})


def undo_bridge(name: str, *, alias: str, addresses: list[str]) -> Undo:
    """Make a bridge of ours again that gave its network to another one (addresses in CIDR form)."""
    return Undo("bridge", {"name": name, "alias": alias, "addresses": addresses})


def undo_addresses(name: str, *, prior: list[str], ours: list[str]) -> Undo:
    """Give a link its earlier IPv4 addresses (CIDR) again and take `ours` away."""
    return Undo("addresses", {"name": name, "prior": prior, "ours": ours})


def undo_ruleset(binary: str, *, prior: dict[str, str], jumps: list[list[str]], added: list[list[str]]) -> Undo:
    """Fill firewall chains that are ours as they were: `prior` as table -> input of iptables-restore(8), `jumps` as [table,
    chain, *spec]. What is `added` since, as [table, parent, chain, *jump], goes."""
    return Undo("ruleset", {"binary": binary, "prior": prior, "jumps": jumps, "added": added})


def undo_sysctl(key: str, *, prior: str, ours: str) -> Undo:
    """Set a kernel parameter back, unless it is no longer what we set."""
    return Undo("sysctl", {"key": key, "prior": prior, "ours": ours})


def undo_module(name: str) -> Undo:
    """Unload a kernel module that we loaded; busy is reported, not forced."""
    return Undo("module", {"name": name})


def undo_rules(binary: str, rules: list[list[str]], chains: list[list[str]]) -> Undo:
    """Delete firewall rules and chains that are ours: `rules` as [table, chain, *spec], `chains` as [table, chain]."""
    return Undo("rules", {"binary": binary, "rules": rules, "chains": chains})


def undo_unit(supervisor: str, name: str, *, enabled: bool, active: bool) -> Undo:
    """Bring a service back to how it was: enabled or not, running or not."""
    return Undo("unit", {"supervisor": supervisor, "name": name, "enabled": enabled, "active": active})


def undo_supervisord(config: str, program: str) -> Undo:
    """End the supervisord that runs with `config`, and its programs."""
    return Undo("supervisord", {"config": config, "program": program})


def undo_vms(prefix: str) -> Undo:
    """End every VM scope whose name begins with `prefix`, gracefully first."""
    return Undo("vms", {"prefix": prefix})


def undo_resource(url: str, token_file: str) -> Undo:
    """Delete a resource of a service on this host by its HTTP API, with the token in a file."""
    return Undo("resource", {"url": url, "token_file": token_file})


def undo_role(cluster: dict[str, Any], name: str) -> Undo:
    """Drop a PostgreSQL role. `cluster`: {"user": "postgres", "port": 5432, "socket_dir": ..., "data_dir": ...}."""
    return Undo("role", {"cluster": cluster, "name": name}, Retain.database)


def undo_database(cluster: dict[str, Any], name: str) -> Undo:
    """Drop a PostgreSQL database, its sessions first."""
    return Undo("database", {"cluster": cluster, "name": name}, Retain.database)

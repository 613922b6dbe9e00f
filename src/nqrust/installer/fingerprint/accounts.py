"""Users, groups and memberships: passwd(5), group(5)."""

from __future__ import annotations

from nqrust.host.facts.reading import text
from nqrust.host.port import Host
from nqrust.installer.fingerprint.model import Section


def take_users(host: Host) -> Section:
    return parse_passwd(text(host, "/etc/passwd"))


def take_groups(host: Host) -> Section:
    return parse_group(text(host, "/etc/group"))


def parse_passwd(content: str) -> Section:
    """Return name -> [uid, gid, comment, home, shell]. Passwords are in /etc/shadow, which is compared as a file."""
    rows = (line.split(":") for line in content.splitlines())
    return {row[0]: row[2:7] for row in rows if len(row) >= 7 and row[0]}


def parse_group(content: str) -> Section:
    """Return name -> [gid, sorted members]."""
    rows = (line.split(":") for line in content.splitlines())
    return {row[0]: [row[2], sorted(filter(None, row[3].split(",")))] for row in rows if len(row) >= 4 and row[0]}

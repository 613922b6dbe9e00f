"""Users, groups and memberships."""

from __future__ import annotations

import dataclasses

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import applied, planned, reverted, round_trip

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Completed
from nqrust.host.port import Group as GroupEntry
from nqrust.installer.engine.forecast import forecast
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.step import Conflict, Origin, Satisfied
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.engine.verb import Kept, Partly, Reverted, UndoContext
from nqrust.installer.verbs.account.group import Group
from nqrust.installer.verbs.account.member import Member
from nqrust.installer.verbs.account.user import User
from nqrust.installer.verbs.file.undo import undo_directory
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.registry import VERBS

_ENTRY = ("run", "step", "kind", "phase", "step", Origin.created)


@pytest.fixture
def host() -> FakeHost:
    """Answer like shadow-utils."""
    host = FakeHost.debian12()

    def useradd(host: FakeHost, cmd: Command) -> None:
        argv = list(cmd.argv)
        group = argv[argv.index("--gid") + 1]
        if group not in host.groups:
            raise CommandFailed(cmd.argv, 6, f"useradd: group '{group}' does not exist")
        host.add_user(argv[-1], 997, group, home=argv[argv.index("--home-dir") + 1])

    def members(host: FakeHost, name: str, change: tuple[str, ...]) -> None:
        host.groups[name] = GroupEntry(name, host.groups[name].gid, change)

    host.on("groupadd", prefix=True, changes=True, answer=lambda h, c: h.add_group(c.argv[-1], 998))
    host.on("groupdel", prefix=True, changes=True, answer=lambda h, c: h.groups.pop(c.argv[-1]) and None)
    host.on("useradd", prefix=True, changes=True, answer=useradd)

    def usermod(host: FakeHost, cmd: Command) -> None:
        if "--append" in cmd.argv:
            members(host, cmd.argv[3], (cmd.argv[4],))
        else:
            user = host.users[cmd.argv[-1]]
            host.users[user.name] = dataclasses.replace(user, gid=host.groups[cmd.argv[2]].gid, home=cmd.argv[4])

    def userdel(host: FakeHost, cmd: Command) -> None:
        """With USERGROUPS_ENAB, like distributions."""
        user = host.users.pop(cmd.argv[-1])
        group = host.groups.get(user.name)
        if group is not None and group.gid == user.gid and not group.members:
            del host.groups[user.name]

    host.on("userdel", prefix=True, changes=True, answer=userdel)
    host.on("usermod", prefix=True, changes=True, answer=usermod)
    host.on("gpasswd", prefix=True, changes=True, answer=lambda h, c: members(h, c.argv[3], ()))
    return host


def test_group_is_created_and_removed(host: FakeHost) -> None:
    round_trip(host, Group("nqrust"))


def test_user_without_a_login_is_created_and_removed(host: FakeHost) -> None:
    host.add_group("nqrust", 998)
    round_trip(host, User("nqrust", "nqrust", "/var/lib/x"))
    argv = next(cmd.argv for cmd in host.commands if cmd.argv[0] == "useradd")
    assert "/usr/sbin/nologin" in argv and "--system" in argv and "--no-create-home" in argv


def test_removing_a_user_keeps_groups_it_did_not_create(host: FakeHost) -> None:
    before = host.state()
    _, group = applied(host, Group("nqrust"))
    _, user = applied(host, User("nqrust", "nqrust", "/var/lib/x"))
    reverted(host, user)
    assert "nqrust" not in host.users and host.groups["nqrust"].gid == 998
    reverted(host, group)
    assert host.state() == before


def test_interrupted_user_removal_completes_later(host: FakeHost) -> None:
    host.add_group("nqrust", 998)
    before = host.state()
    _, records = applied(host, User("nqrust", "nqrust", "/var/lib/x"))
    host.on("userdel", prefix=True, changes=True, answer=CommandFailed(("userdel",), 137, "killed"))
    with pytest.raises(CommandFailed):
        reverted(host, records)
    host.on("userdel", prefix=True, changes=True, answer=lambda h, c: h.users.pop(c.argv[-1]) and None)
    reverted(host, records)
    assert host.state() == before


def test_removing_package_users_keeps_earlier_groups(host: FakeHost) -> None:
    host.add_user("db", 101)
    host.put("/etc/passwd", "db:x:101:101::/:/bin/false\n")
    assert traces.remove(host, {"paths": {}, "users": ["db"], "groups": []}, frozenset()) == []
    assert "db" not in host.users and host.groups["db"].gid == 101


def test_user_with_running_processes_is_kept_unchanged(host: FakeHost) -> None:
    host.add_group("nqrust", 998)
    _, records = applied(host, User("nqrust", "nqrust", "/var/lib/x"))
    before = host.state()
    host.on("usermod", prefix=True, changes=True, answer=Completed(("usermod",), 8, "", ""))
    assert [type(outcome) for outcome in reverted(host, records)] == [Kept]
    assert host.state() == before


def test_user_stays_while_what_is_its_stays(host: FakeHost) -> None:
    """The next account could get its number, and read and replace images of a private registry."""
    _, group = applied(host, Group("nqrust"))
    _, user = applied(host, User("nqrust", "nqrust", "/var/lib/x"))
    host.put("/srv/images/mine/rootfs.ext4", "x", owner="nqrust")
    images = undo_directory("/srv/images", tree=True, retain=Retain.data)
    kept = UndoContext(host, Originals(host, "/originals"), staying=(images,))
    assert VERBS.revert(kept, user[0]) == Partly("user nqrust stays, because /srv/images/mine/rootfs.ext4 stays and is its")
    before = host.state()
    with_user = dataclasses.replace(kept, staying=(images, *user))
    assert VERBS.revert(with_user, group[0]) == Partly("group nqrust stays with the user nqrust")
    told = [
        seen for _, seen in forecast(VERBS, kept, (Entry(1, *_ENTRY, tuple(group), 0.0), Entry(2, *_ENTRY, tuple(user), 0.0)))
    ]
    assert [len(seen.waits) for seen in told] == [1, 1] and not any(seen.lines for seen in told) and host.state() == before
    host.set_mode("/srv/images/mine/rootfs.ext4", mode=0o644, owner="root", group="root")
    assert VERBS.revert(kept, user[0]) == Reverted() and VERBS.revert(kept, group[0]) == Reverted()
    assert not {"nqrust"} & (host.users.keys() | host.groups.keys())


def test_group_membership_is_added_and_removed(host: FakeHost) -> None:
    host.add_group("kvm", 104)
    host.add_user("nqrust", 998)
    round_trip(host, Member("kvm", "nqrust"))


def test_existing_accounts_are_adopted(host: FakeHost) -> None:
    host.add_user("nqrust", 1001)
    host.add_group("kvm", 104, ("nqrust",))
    for step in (
        Group("nqrust"),
        User("nqrust", "nqrust", "/"),
        Member("kvm", "nqrust"),
        Member("nqrust", "nqrust"),
    ):
        assert isinstance(step.inspect(host), Satisfied)


def test_accounts_can_be_planned_before_they_exist(host: FakeHost) -> None:
    assert planned(host, Member("kvm", "nqrust")) and planned(host, User("nqrust", "nqrust", "/"))


def test_root_by_another_name_is_refused(host: FakeHost) -> None:
    host.add_user("nqrust", 0, "root")
    found = User("nqrust", "nqrust", "/").inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-CFG-110" and found.cure


def test_existing_user_with_another_group_is_refused(host: FakeHost) -> None:
    host.add_user("nqrust", 1001, "people")
    host.add_group("nqrust", 998)
    found = User("nqrust", "nqrust", "/").inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-CFG-111"

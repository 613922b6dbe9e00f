"""Who can read what: every file and folder of the configuration and the state, with owner, group and mode."""

from __future__ import annotations

from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_container_runtime import asked, steps
from tests.unit.installer.verbs.lifecycle import applied, reverted

from nqrust.contract import names, paths
from nqrust.installer.engine.step import Step
from nqrust.installer.verbs.account.group import Group
from nqrust.installer.verbs.account.user import User
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File

CONFIG, STATE = paths.CONFIG_DIR, paths.STATE_DIR
ROOTS = (CONFIG, STATE, paths.Layout().backups_dir)
WHO = {
    f"{CONFIG}/config.yaml": ("root", "nqrust", 0o640),
    f"{CONFIG}/manager.env": ("root", "nqrust", 0o640),
    f"{CONFIG}/database-password": ("root", "nqrust", 0o640),
    f"{CONFIG}/bootstrap.json": ("root", "nqrust", 0o640),
    f"{CONFIG}/ui.env": ("root", "nqrust-ui", 0o640),
    f"{CONFIG}/agent.env": ("root", "root", 0o600),
    f"{CONFIG}/admin-password": ("root", "root", 0o600),
    f"{CONFIG}/cli-token": ("root", "root", 0o600),
    f"{CONFIG}/join-token": ("root", "root", 0o600),
    f"{CONFIG}/dnsmasq.conf": ("root", "root", 0o644),
    f"{CONFIG}/tls": ("root", "root", 0o755),
    f"{CONFIG}/tls/ca.crt": ("root", "root", 0o644),
    f"{CONFIG}/tls/ca.key": ("root", "nqrust", 0o640),
    f"{STATE}/manager-tls": ("nqrust", "nqrust-ui", 0o2750),
    f"{STATE}": ("root", "root", 0o711),
    f"{STATE}/secrets.json": ("root", "root", 0o600),
    f"{STATE}/dhcp": ("root", "root", 0o755),
    f"{STATE}/dhcp/hosts.d": ("root", "root", 0o755),
    "/opt/nqrust-microvm/backups": ("root", "root", 0o700),
}
"""dnsmasq gives up root, so it must enter `dhcp` and read what is there: names and addresses of VMs."""


def planned() -> list[Step]:
    return list(steps(asked(False), fit()))


def test_every_file_has_the_owner_group_and_mode_of_the_table() -> None:
    found = {
        s.path: (s.owner, s.group, s.mode) for s in planned() if isinstance(s, (File, Directory)) and s.path.startswith(ROOTS)
    }
    assert {path: who for path, who in found.items() if path in WHO} == WHO
    open_to_all = {path for path, (_, _, mode) in found.items() if mode & 0o004 and path not in WHO}
    assert open_to_all <= {CONFIG}, "a new file has a row in the table"


def test_the_web_ui_has_a_user_of_its_own_that_goes_again() -> None:
    accounts = [s for s in planned() if isinstance(s, (Group, User)) and s.name == names.UI_USER]
    assert [s.kind for s in accounts] == ["group", "user"]
    assert names.UI_USER != names.SERVICE_USER and names.UI_GROUP != names.SERVICE_GROUP
    assert [dict(r.args) for s in accounts for r in s.prepare(FakeHost.debian12()).undo] == [{"name": "nqrust-ui"}] * 2


def test_the_file_of_a_web_ui_that_ran_as_the_manager_changes_hands() -> None:
    (step,) = [s for s in planned() if isinstance(s, File) and s.path == f"{CONFIG}/ui.env"]
    host = FakeHost.debian12()
    for number, name in ((990, names.SERVICE_GROUP), (991, names.UI_GROUP)):
        host.add_group(name, number)
    host.put_directory(CONFIG)
    host.write_file(step.path, step.data, mode=0o640, owner="root", group=names.SERVICE_GROUP)
    before = host.state()
    _, records = applied(host, step)
    stat = host.stat(step.path)
    assert stat is not None and (stat.owner, stat.group, stat.mode) == WHO[step.path]
    reverted(host, records)
    assert host.state() == before

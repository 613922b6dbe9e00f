"""What nqr writes into pg_hba.conf, and where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.postgres.scripted_psql import psql
from tests.unit.installer.verbs.postgres.test_postgres import CHOICE, host

from nqrust.installer.engine.errors import StepConflict
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.postgres.rules import SignInRules
from nqrust.installer.verbs.registry import VERBS

__all__ = ["host"]


def rules(host: FakeHost, hba: str = "/etc/postgresql/15/main/pg_hba.conf", sessions: str = "") -> list[str]:
    """Answer for a cluster with this file, where the role has these sessions through the socket, until they are ended. Other rows
    of the answer stand there, too, such as those of lines that ask for no password."""
    ended: list[str] = []

    def answer(sql: str) -> str:
        if "pg_terminate_backend" in sql:
            ended.append(sql)
        if "SHOW hba_file" in sql:
            return f"{hba}\n{'' if ended else sessions}"
        return ""

    return psql(host, answer)


def test_rules_stand_before_those_of_the_distribution(host: FakeHost) -> None:
    hba = "/etc/postgresql/15/main/pg_hba.conf"
    host.put(hba, "local all all peer\n", mode=0o640, owner="postgres", group="postgres")
    said = rules(host)
    step = SignInRules(CHOICE, "nexus")
    assert isinstance(step.inspect(host), Needed)
    assert [(undo.verb, undo.retain) for undo in step.prepare(host).undo] == [("sign_in_rules", Retain.database)], (
        "as long as the role"
    )
    step.apply(host)
    step.verify(host)
    assert next(sql for sql in said if "reload" in sql or "terminate" in sql) == "SELECT pg_reload_conf();", (
        "and then the sessions"
    )
    stat = host.stat(hba)
    assert stat is not None and (stat.mode, stat.owner) == (0o640, "postgres")
    assert host.read_text(hba).splitlines() == [
        "# BEGIN nqrust-microvm database role nexus",
        'local all "nexus" reject',
        "# END nqrust-microvm database role nexus",
        "local all all peer",
    ]
    for undo in step.prepare(host).undo:
        assert undo.args["prior"].startswith("# BEGIN"), "a second run gives its own block back"


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("unasked|127.0.0.1|255.255.255.255", True),
        ("unasked|::1|ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", True),
        ("unasked|127.0.0.0|255.0.0.0", True),
        ("unasked|0.0.0.0|0.0.0.0", True),
        ("unasked|all|", True),
        ("unasked|samehost|", True),
        ("unasked|10.0.0.0|255.0.0.0", False),
        ("unasked|fd00::|ffff::", False),
    ],
)
def test_rules_ask_for_a_password_over_tcp_where_another_line_does_not(host: FakeHost, line: str, added: bool) -> None:
    hba = "/etc/postgresql/15/main/pg_hba.conf"
    host.put(hba, "local all all peer\n")
    rules(host, sessions=line)
    SignInRules(CHOICE, "nexus").apply(host)
    assert ('host all "nexus" 127.0.0.1/32 scram-sha-256' in host.read_text(hba)) == added


def test_rules_ask_for_a_password_wherever_another_line_does_not(host: FakeHost) -> None:
    """The host's own address may be among them."""
    hba = "/etc/postgresql/15/main/pg_hba.conf"
    host.put(hba, "local all all peer\n")
    lines = [
        "127.0.0.1|255.255.255.255",
        "10.0.0.0|255.0.0.0",
        "fd00::|ffff::",
        "samenet|",
        "samenet|",
        "db.example|",
        "10.0.0.1|255.0.0.255",
    ]
    rules(host, sessions="\n".join(f"unasked|{line}" for line in [*lines, "a b|"]))
    SignInRules(CHOICE, "nexus").apply(host)
    written = [line.split() for line in host.read_text(hba).splitlines() if line.startswith("host")]
    assert [words[3] for words in written] == [
        *("127.0.0.1/32", "::1/128", "10.0.0.0/8", "fd00::/16", "samenet", "db.example", "all")
    ]
    assert {(*words[:3], words[4]) for words in written} == {("host", "all", '"nexus"', "scram-sha-256")}


@pytest.mark.parametrize("running", [True, False])
def test_a_server_that_runs_follows_the_rules_of_before(host: FakeHost, running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    hba = "/etc/postgresql/15/main/pg_hba.conf"
    host.put(hba, "local all all peer\n")
    said = rules(host)
    step = SignInRules(CHOICE, "nexus")
    (undo,) = step.prepare(host).undo
    step.apply(host)
    found = CHOICE.require(host)
    monkeypatch.setattr("nqrust.installer.verbs.postgres.undo.find", lambda host, args: replace(found, online=running))
    said.clear()
    VERBS.revert(UndoContext(host, Originals(host, "/nowhere")), undo)
    assert host.read_text(hba) == "local all all peer\n"
    assert [sql.strip() for sql in said] == (["SELECT pg_reload_conf();"] if running else [])


def test_sessions_that_began_before_the_rules_are_ended(host: FakeHost) -> None:
    host.put("/etc/postgresql/15/main/pg_hba.conf", "local all all peer\n")
    step = SignInRules(CHOICE, "nexus")
    rules(host)
    step.apply(host)
    rules(host, sessions="session")
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    assert isinstance(step.inspect(host), Satisfied)


@pytest.mark.parametrize(
    ("text", "owner", "mode", "taken"),
    [
        ("# here\n\nlocal all all peer\nhostssl all all \\\n all scram-sha-256\n", "root", 0o640, True),
        ("local all all peer\n", "postgres", 0o640, True),
        ("local all all peer\n", "games", 0o644, False),
        ("local all all peer\n", "root", 0o646, False),
        ("root:*:19000:0:99999:7:::\n", "root", 0o640, False),
        ("local all all peer\n# a page\x0cnote\u2028of two lines\n", "root", 0o640, True),
        ("# only a comment of root\n", "root", 0o640, False),
        ("hostname of root\n", "root", 0o640, False),
    ],
)
def test_pg_hba_that_is_a_link(host: FakeHost, text: str, owner: str, mode: int, taken: bool) -> None:
    hba = "/etc/postgresql/15/main/pg_hba.conf"
    host.add_user("games", 5)
    host.put("/srv/pg_hba.conf", text, mode=mode, owner=owner)
    host.put_symlink("/srv/pg_hba.conf", hba)
    rules(host)
    step = SignInRules(CHOICE, "nexus")
    found = step.inspect(host)
    if taken:
        assert [undo.args["path"] for undo in step.prepare(host).undo] == ["/srv/pg_hba.conf"]
        step.apply(host)
        assert host.read_text("/srv/pg_hba.conf").endswith(f"reject\n# END nqrust-microvm database role nexus\n{text}")
        assert isinstance(step.inspect(host), Satisfied)
        return
    assert isinstance(found, Conflict) and (found.code, hba in found.why) == ("NQR-DB-113", True)
    for act in (step.prepare, step.apply):
        with pytest.raises(StepConflict):
            act(host)
    assert host.read_text("/srv/pg_hba.conf") == text

"""A psql with scripted answers that never sees a password in argv."""

from __future__ import annotations

from collections.abc import Callable

from tests.fakes.host import FakeHost

from nqrust.host.port import Command
from nqrust.host.secret import Secret
from nqrust.installer.verbs.postgres.sql import Connection

PASSWORD = Secret("s3cret-p'w")
LOGIN = Connection("127.0.0.1", 5432, "nexus", "nexus", PASSWORD)


def psql(host: FakeHost, answer: Callable[[str], str]) -> list[str]:
    """Answer SQL. Keep the statements in order."""
    said: list[str] = []

    def reply(host: FakeHost, cmd: Command) -> str:
        sql = cmd.input.reveal() if isinstance(cmd.input, Secret) else (cmd.input or b"").decode()
        assert PASSWORD.reveal() not in " ".join(cmd.argv)
        said.append(sql)
        return answer(sql)

    host.on("psql", prefix=True, answer=reply)
    return said

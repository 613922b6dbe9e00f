"""A manager's host in memory: PostgreSQL, the secrets of an installation, and a manager that takes part in rotations."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.fakes.host import FakeHost

from nqrust.contract import names, paths
from nqrust.contract.credentials import hash_token
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.installer import secret_store
from nqrust.installer.context import Secrets
from nqrust.installer.verbs.postgres import scram
from nqrust.tls import authority, pinning

URL = "http://127.0.0.1:18080"
CONFIG = "/etc/nqrust-microvm"
FILES = {"database-password": "db_password", "cli-token": "cli_token", "join-token": "join_token"}


@cache
def secrets() -> Secrets:
    """Real ones; making them takes a moment."""
    return secret_store.generate()


@dataclass
class FakeManager:
    """`slow`: answers until the hosts have followed. `offline`, `stuck`: names of hosts. `begun`: what it was asked for.

    `followed`: what kvm1 trusts, and who signed its certificate. `verifier`: of the role in PostgreSQL. `worked`: the last password with which the manager logged in.
    """

    host: FakeHost
    slow: int = 0
    offline: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    begun: list[str] = field(default_factory=list)
    answers: int = 200
    verifier: str = ""
    worked: str = ""
    followed: tuple[tuple[str, ...], str] = ((), "")

    def __post_init__(self) -> None:
        self._prepare()
        self.host.pages[f"{URL}/v1/rotation"] = self._state
        for what in ("certificates", "tokens"):
            self.host.pages[f"POST {URL}/v1/rotation/{what}"] = lambda headers, what=what: self._begin(headers, what)

    @property
    def stored(self) -> Secrets:
        found = secret_store.load(self.host)
        assert found is not None
        return found

    def read(self, name: str) -> str:
        return self.host.read_text(f"{CONFIG}/{name}").strip()

    def logs_in(self) -> bool:
        """Log in to PostgreSQL as the manager does."""
        for password in (self.read("database-password"), self.worked):
            if scram.fits(self.verifier, "nexus", password):
                self.worked = password
                return True
        return False

    @property
    def trusted(self) -> tuple[str, ...]:
        """The authorities that the manager trusts."""
        return pinning.certificates(self.read("tls/ca.crt"))

    @property
    def signer(self) -> str:
        key = self.read("tls/ca.key")
        return next(one for one in self.trusted if authority.belongs(one, key))

    def talks(self) -> bool:
        """Whether manager and host accept each other's certificates."""
        trusted, signer = self.followed
        return self.signer in trusted and signer in self.trusted

    def _prepare(self) -> None:
        host = self.host
        for number, name in ((990, names.SERVICE_GROUP), (105, "postgres")):
            if host.group(name) is None:
                host.add_group(name, number)
        if host.user("postgres") is None:
            host.add_user("postgres", 105)
        for path in (CONFIG, f"{CONFIG}/tls", paths.STATE_DIR, "/srv/images"):
            if not host.exists(path):
                host.put_directory(path)
        stored = secrets()
        host.put(paths.SECRETS_JSON, secret_store.render(stored).reveal(), mode=0o600)
        host.put(f"{CONFIG}/tls/ca.crt", stored.authority)
        host.put(f"{CONFIG}/tls/ca.key", stored.authority_key.reveal(), mode=0o600)
        self.followed = (self.trusted, self.signer)
        for name, secret in FILES.items():
            host.put(f"{CONFIG}/{name}", getattr(stored, secret).reveal() + "\n", mode=0o600)
        data = "/var/lib/postgresql/15/main"
        host.put("/etc/postgresql/15/main/postgresql.conf", f"data_directory = '{data}'\nport = 5432\n")
        host.put_directory(data, mode=0o700, owner="postgres", group="postgres")
        host.put(f"{data}/postmaster.pid", f"700\n{data}\n1700000000\n5432\n/var/run/postgresql\nlocalhost\n")
        host.put("/proc/700/comm", "postgres\n")
        self.worked = stored.db_password.reveal()
        self.verifier = scram.verifier(self.worked)
        host.on("psql", prefix=True, answer=self._psql)

    def _psql(self, host: FakeHost, cmd: Command) -> str:
        sent = cmd.input.reveal() if hasattr(cmd.input, "reveal") else (cmd.input or b"")
        sql = sent if isinstance(sent, str) else sent.decode()
        password = cmd.env.get("PGPASSWORD") if cmd.env else None
        if password is not None and not scram.fits(self.verifier, "nexus", password.reveal()):  # type: ignore[union-attr]
            raise CommandFailed(cmd.argv, 2, "", "FATAL: password authentication failed for user")
        return self._sql(sql)

    def _sql(self, sql: str) -> str:
        if found := re.search(r"ALTER ROLE .* PASSWORD '([^']+)'", sql):
            self.verifier = found[1]
        return f"{self.verifier}|t|t|f|f" if "pg_authid" in sql else "1"

    def known(self) -> list[str]:
        if not self.host.exists(f"{CONFIG}/bootstrap.json"):
            return [hash_token(self.stored.cli_token.reveal())]
        return [token["sha256"] for token in json.loads(self.read("bootstrap.json"))["tokens"]]

    def _begin(self, headers: dict[str, Any], what: str) -> tuple[int, str]:
        status, body = self._state(headers)
        if status == 200:
            self.begun.append(what)
        return status, body

    def _state(self, headers: dict[str, Any]) -> tuple[int, str]:
        # It knows the hashes in bootstrap.json, not the file that nqr reads.
        if hash_token(headers["Authorization"].reveal().removeprefix("Bearer ")) not in self.known():
            return 401, "{}"
        if self.answers != 200:
            return self.answers, "{}"
        ready, trusted = self.slow <= 0, pinning.fingerprint("".join(self.trusted))
        self.slow -= 1
        hosts = []
        for name in ("kvm1", *self.stuck, *self.offline):
            has = ready and name not in (*self.stuck, *self.offline)
            if has and name == "kvm1":
                assert self.talks()
                self.followed = (self.trusted, self.signer)
            state = "offline" if name in self.offline else "online"
            hosts.append({"name": name, "state": state, "authority": has, "certificate": has, "tokens": has})
        return 200, json.dumps({"trusted": trusted, "signer": pinning.fingerprint(self.signer), "hosts": hosts})

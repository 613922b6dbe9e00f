"""A PostgreSQL of the benchmark's own: a temporary cluster on loopback with the server's default settings."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        raise SystemExit("no PostgreSQL server is installed here")
    return found[-1].parent


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """The postgresql:// URL of a migrated database. Gone afterwards."""
    from nqrust.manager.store.migrate import migrate

    binaries, folder, port, password = _binaries(), tempfile.mkdtemp(prefix="nqr-bench-pg-"), free_port(), secrets.token_hex(8)
    prefix: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        prefix = ["runuser", "-u", "nobody", "--"]
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    secret = Path(folder, "password")
    secret.touch(mode=0o600)
    secret.write_text(password)
    if prefix:
        shutil.chown(secret, "nobody")

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*prefix, str(binaries / program), *arguments], check=True, cwd=folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip

    data = f"{folder}/data"
    try:
        run("initdb", "-D", data, "-U", "nexus", "--auth=scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C.UTF-8")
        run(
            "pg_ctl",
            "-D",
            data,
            "-w",
            "-s",
            "-l",
            f"{folder}/log",
            "-o",
            f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}",
            "start",
        )
        try:
            url = f"postgresql://nexus:{password}@127.0.0.1:{port}/postgres"
            migrate(url.replace("postgresql://", "postgresql+psycopg://"))
            yield url
        finally:
            run("pg_ctl", "-D", data, "-w", "-s", "-m", "fast", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)

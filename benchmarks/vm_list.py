"""`GET /v1/vms` of a real manager process with 1,000 VMs on 10 hosts, over the select of the same rows by psycopg."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import population, postgres, simulated_hosts
from benchmarks.figures import line, note, percentile, under

HOSTS, VMS = 10, 1000
ROUNDS = 200
PAGE = 50
SELECT = "SELECT v.*, h.name FROM vms v LEFT JOIN hosts h ON h.id = v.host_id ORDER BY v.name LIMIT %s"


@contextlib.contextmanager
def manager(database: str, more: dict[str, str] | None = None) -> Iterator[tuple[int, str, int]]:
    """(port, administrator's token, process) of a manager that answers and reconciles. `more`: further environment."""
    from nqrust.contract.credentials import hash_password, hash_token

    token, port = "nqr_" + secrets.token_urlsafe(32), postgres.free_port()
    with tempfile.TemporaryDirectory(prefix="nqr-bench-") as folder:
        Path(folder, "images").mkdir()
        bootstrap = Path(folder, "bootstrap.json")
        bootstrap.touch(mode=0o600)
        tokens = [{"name": "bench", "sha256": hash_token(token), "role": "admin"}]
        bootstrap.write_text(
            json.dumps({"admin_password_hash": hash_password(secrets.token_hex()), "tokens": tokens, "join_tokens": []})
        )
        environment = os.environ | {
            "DATABASE_URL": database, "MANAGER_BIND": f"127.0.0.1:{port}", "MANAGER_IMAGE_ROOT": f"{folder}/images",
            "MANAGER_STORAGE_ROOT": f"{folder}/vms", "MANAGER_BOOTSTRAP_FILE": str(bootstrap), **(more or {}),
        }  # fmt: skip
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "nqrust.manager"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            _wait(port, process, Path(folder, "log"))
            yield port, token, process.pid
        finally:
            process.terminate()
            process.wait(15)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"the manager does not answer:\n{log.read_text()[-3000:]}")


def bench() -> None:
    import psycopg

    with postgres.cluster() as database, simulated_hosts.hosts(HOSTS, VMS) as agents:
        population.seed(database, agents, VMS)
        with manager(database) as (port, token, _), psycopg.connect(database) as raw:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

            def get(query: str, count: int) -> None:
                client.request("GET", f"/v1/vms{query}", headers={"Authorization": f"Bearer {token}"})
                answer = client.getresponse()
                body = answer.read()
                if answer.status != 200 or body.count(b'"generation"') != count:
                    raise SystemExit(f"GET /v1/vms{query} said {answer.status}: {body[:300]!r}")

            def select(count: int) -> None:
                assert len(raw.execute(SELECT, (count,)).fetchall()) == count
                raw.rollback()

            for what, query, count in ((f"first {PAGE}", f"?limit={PAGE}", PAGE), ("all", "", VMS)):
                asked, selected = _interleaved(partial(get, query, count), partial(select, count))
                p50, p95 = statistics.median(asked) * 1000, percentile(asked, 0.95) * 1000
                bare = percentile(selected, 0.95) * 1000
                line(
                    f"GET /v1/vms, {what} of {VMS}, p95", f"{p95:.1f} ms (p50 {p50:.1f} ms)",
                    f"{p95 / bare:.1f} x the raw select ({bare:.1f} ms)", under(p95, 50, "ms"),
                )  # fmt: skip
            note(f"{ROUNDS} requests each after 20 to warm up, one connection; the manager's reconciler is on")


def _interleaved(*calls: Callable[[], None]) -> list[list[float]]:
    """Seconds of each call, the calls taking turns so that a noisy moment meets all of them."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(ROUNDS + 20):
        for call, found in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            if number >= 20:
                found.append(time.perf_counter() - began)
    return times

"""Requests over TLS, over the same requests in plain HTTP to the same manager, in turns. Its memory with and without TLS."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import population, postgres
from benchmarks.figures import line, note
from benchmarks.vm_list import manager

HOSTS, VMS, PAGE = 100, 1000, 50
ROUNDS = 200
TURNS = 15
BEAT = {
    "version": "0.2.0", "boot_id": population.BOOT,
    "capacity": {"cpus": 64, "memory_mib": 262144, "disk_mib": 10**6, "disk_available_mib": 10**6},
}  # fmt: skip


def bench() -> None:
    from nqrust.tls import authority, contexts
    from nqrust.tls.authority import Authority

    made = authority.new_authority("benchmark")
    signs = Authority(made)
    people = contexts.client(made.certificate)
    with tempfile.TemporaryDirectory(prefix="nqr-bench-tls-") as folder:
        files = {"MANAGER_CA_FILE": made.certificate, "MANAGER_CA_KEY_FILE": made.key}
        for name, text in files.items():
            Path(folder, name).write_text(text)
        environment = {name: f"{folder}/{name}" for name in files} | {"MANAGER_RECONCILER_DISABLED": "true"}
        with postgres.cluster() as database:
            population.seed(database, ["https://192.0.2.1:19090"] * HOSTS, VMS)
            _give_identities(database)
            without = _memory_without_tls(database)
            with manager(database, environment) as (port, token, process):
                _lists(port, token, people)
                agents = []
                for number in range(HOSTS):
                    pair = signs.issue([contexts.agent_name(f"{population.host_id(number)}-1")])
                    agents.append(contexts.client(made.certificate, pair.certificate, pair.key))
                _heartbeats(port, agents)
                memory = _resident(process)
                line("manager, resident memory with TLS", f"{memory:.1f} MiB", f"{memory - without:+.1f} MiB over plain HTTP")


def _give_identities(database: str) -> None:
    import psycopg

    with psycopg.connect(database) as connection:
        connection.execute("UPDATE hosts SET identity = 1")


def _memory_without_tls(database: str) -> float:
    """Of a manager that answered the same requests in plain HTTP alone."""
    with manager(database, {"MANAGER_RECONCILER_DISABLED": "true"}) as (port, token, process):
        ask = partial(_ask, _plain(port), "GET", f"/v1/vms?limit={PAGE}", token)
        beats = [partial(_beat, _plain(port), number) for number in range(HOSTS)]
        for _ in range(ROUNDS):
            ask()
        for _ in range(TURNS):
            for beat in beats:
                beat()
        return _resident(process)


def _plain(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=30)


def _secured(port: int, context: ssl.SSLContext) -> http.client.HTTPConnection:
    return http.client.HTTPSConnection("localhost", port, timeout=30, context=context)


def _ask(connection: http.client.HTTPConnection, method: str, path: str, token: str, body: Any = None) -> None:
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status not in (200, 204):
        raise SystemExit(f"{method} {path} said {answer.status}: {data[:300]!r}")


def _beat(connection: http.client.HTTPConnection, number: int) -> None:
    _ask(connection, "POST", f"/v1/hosts/{population.host_id(number)}/heartbeat", f"agent{number}", BEAT)


def _lists(port: int, token: str, people: ssl.SSLContext) -> None:
    path = f"/v1/vms?limit={PAGE}"
    kept = [partial(_ask, one, "GET", path, token) for one in (_plain(port), _secured(port, people))]
    _compare(f"GET /v1/vms, first {PAGE} of {VMS}, kept connection", kept)

    def anew(make: Callable[[], http.client.HTTPConnection]) -> None:
        connection = make()
        _ask(connection, "GET", path, token)
        connection.close()

    _compare(
        "the same, a new connection each", [partial(anew, partial(_plain, port)), partial(anew, partial(_secured, port, people))]
    )


def _heartbeats(port: int, agents: list[ssl.SSLContext]) -> None:
    """Every host on its own kept connection, as its agent has it."""
    from nqrust.tls import contexts

    plain = [partial(_beat, _plain(port), number) for number in range(HOSTS)]
    for context in agents:
        context.check_hostname = False
    secured = [partial(_beat, _secured(port, context), number) for number, context in enumerate(agents)]
    note(f"agents ask for {contexts.MANAGER_NAME}; here for localhost, which costs the same")
    _compare(f"heartbeats of {HOSTS} hosts, one after the other", [partial(_all, plain), partial(_all, secured)], TURNS)


def _all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _compare(what: str, calls: list[Callable[[], None]], rounds: int = ROUNDS) -> None:
    """`calls`: plain, then over TLS. They take turns, so a noisy moment meets both."""
    times: list[list[float]] = [[], []]
    for number in range(rounds + rounds // 10):
        for call, found in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            if number >= rounds // 10:
                found.append(time.perf_counter() - began)
    plain, secured = (statistics.median(found) * 1000 for found in times)
    line(f"{what}, p50", f"{secured:.1f} ms", f"{secured / plain:.2f} x plain HTTP ({plain:.1f} ms)")


def _resident(process: int) -> float:
    """MiB (proc(5), VmRSS)."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0

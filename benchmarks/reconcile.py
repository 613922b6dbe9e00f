"""One reconcile pass over 100 hosts and 10,000 VMs: real PostgreSQL, simulated agents over real HTTP. The raw figure is
what no reconciler can avoid: 100 inventories fetched by bare httpx, and one select of what is wanted."""

from __future__ import annotations

import asyncio
import cProfile
import os
import pstats
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks import population, postgres, simulated_hosts
from benchmarks.figures import line, note, under

if TYPE_CHECKING:
    from nqrust.manager.work.reconciler import Reconciler

HOSTS, VMS = 100, 10_000
ROUNDS = 9
SELECT = "SELECT id, host_id, desired_state, state, generation FROM vms"


def bench() -> None:
    with postgres.cluster() as database, simulated_hosts.hosts(HOSTS, VMS) as agents:
        population.seed(database, agents, VMS)
        asyncio.run(_measure(database, agents))


async def _measure(database: str, agents: list[str]) -> None:
    import httpx
    import psycopg

    from nqrust.host.secret import Secret
    from nqrust.manager import app as application
    from nqrust.manager.settings import Settings
    from nqrust.manager.work.reconciler import Reconciler

    core = application.create_core(Settings(database_url=Secret(database)))
    reconciler = Reconciler(core)
    bare = [httpx.AsyncClient(base_url=agent, trust_env=False) for agent in agents]

    async def raw() -> float:
        began = time.perf_counter()
        answers = await asyncio.gather(*(client.get("/agent/v1/inventory") for client in bare))
        assert all(answer.status_code == 200 for answer in answers)
        with psycopg.connect(database) as connection:
            assert len(connection.execute(SELECT).fetchall()) == VMS
        return time.perf_counter() - began

    passes, floor = [], []
    try:
        for _ in range(ROUNDS + 1):
            population.heartbeat(database)
            passes.append(await _pass(reconciler))
            floor.append(await raw())
        if os.environ.get("NQR_BENCH_PROFILE"):
            await _profile(reconciler)
    finally:
        for client in bare:
            await client.aclose()
        await core.agents.close()
        await core.db.close()
    first = passes.pop(0)
    took, least = statistics.median(passes), statistics.median(floor[1:])
    line(
        f"reconcile pass, {HOSTS} hosts, {VMS} VMs", f"{took:.2f} s (worst {max(passes):.2f} s)",
        f"{took / least:.1f} x fetching and one select ({least:.2f} s)", under(took, 1, "s"),
    )  # fmt: skip
    note(f"median of {ROUNDS}; the first pass, which opens {HOSTS} connections, took {first:.2f} s")


async def _pass(reconciler: Reconciler) -> float:
    began = time.perf_counter()
    actions = await reconciler.once()
    took = time.perf_counter() - began
    if actions:
        raise SystemExit(f"rows and inventories should agree, but the pass wants {len(actions)} actions: {actions[:3]}")
    return took


async def _profile(reconciler: Reconciler) -> None:
    with cProfile.Profile() as profile:
        await reconciler.once()
    pstats.Stats(profile).sort_stats("cumulative").print_stats(45)

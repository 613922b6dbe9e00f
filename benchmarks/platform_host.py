"""One production install, and everything that is measured on it."""

from __future__ import annotations

from benchmarks import boot, commands, install, memory
from benchmarks.ansible import compare


def bench() -> None:
    from tests.hosts.machine import Machine

    with Machine() as host:
        host.clone_repository(install.CLONE)
        install.metered(host, install.INSTALL)
        measure(host)


def measure(host) -> None:  # type: ignore[no-untyped-def]  # Machine, of the tests
    commands.bench(host)
    memory.bench(host)
    boot.bench(host)
    compare.bench(host, install.CLONE, install.bench_converged(host))

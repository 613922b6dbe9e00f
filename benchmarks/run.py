"""Measures the budgets of the project and prints each figure as a ratio to what it cannot avoid. Nothing here asserts.

    python benchmarks/run.py [NAME...]      default: all, in this order

`help`         `nqr --help`, `nqr vm ls` and a completed name, over an interpreter that does nothing.
`list`         `GET /v1/vms` of a manager with 1,000 VMs, over the raw select.
`tls`          `GET /v1/vms` and the heartbeats of 100 hosts over TLS, over plain HTTP to the same manager, in turns; memory.
`reconcile`    one pass over 100 hosts and 10,000 VMs, over fetching their inventories.
`firecracker`  a VM under a jailed Firecracker: create until its first line, and restore of a memory snapshot, over the same
               calls by hand, in turns.
`many`         100 VMs of 64 MiB on one agent, under Firecracker and under QEMU with KVM.
`sessions`     commands in a guest: create until the first answer, the time of a command, copies of 64 MiB both ways.
`platform`     on an installed Debian 12 host: `nqr --help`, `nqr vm ls` and `nqr status`; idle memory of the services;
               `vm create` until the guest agent is up, over the VMM's own boot; a converged re-run, over Ansible's.
`bundle`       on a pristine Debian 12 host without a network: an install from a bundle that holds the image.
`install`      on pristine Debian 12 hosts: a fresh install, over the raw commands for the same packages, wheels and
               compiler runs; a converged re-run; peak memory.

`list`, `tls` and `reconcile` need a PostgreSQL server's programs, `firecracker` and `many` root and KVM, `sessions` root, QEMU and
Rust, `platform`, `bundle` and `install` root and systemd-nspawn. Other work on the machine shows in every figure;
docs/understand/benchmarks.md tells what to do about it.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import note

NAMES = {
    "help": ("command_line", "bench"),
    "list": ("vm_list", "bench"),
    "tls": ("tls_cost", "bench"),
    "reconcile": ("reconcile", "bench"),
    "firecracker": ("firecracker", "bench"),
    "many": ("many_vms", "bench"),
    "sessions": ("sessions", "bench"),
    "platform": ("platform_host", "bench"),
    "bundle": ("bundle", "bench"),
    "install": ("install", "bench_install"),
}


def main(wanted: list[str]) -> None:
    unknown = [name for name in wanted if name not in NAMES]
    if unknown or {"-h", "--help"} & set(wanted):
        sys.exit(__doc__)
    note(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start, kernel {os.uname().release}")
    for name in wanted or NAMES:
        module, function = NAMES[name]
        getattr(importlib.import_module(f"benchmarks.{module}"), function)()


if __name__ == "__main__":
    main(sys.argv[1:])

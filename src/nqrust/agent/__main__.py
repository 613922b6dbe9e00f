"""`nqrust-agent`: configured by environment variables only (see settings.py). Exit code 2: the settings are wrong."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys

import structlog

import nqrust
from nqrust.agent import log, settings
from nqrust.agent.errors import SettingsError
from nqrust.host import confinement
from nqrust.host.errors import HostError


def main() -> None:
    if "--version" in sys.argv[1:]:
        sys.stdout.write(f"nqrust-agent {nqrust.__version__}\n")
        raise SystemExit(0)
    if sys.argv[1:]:
        sys.stderr.write("nqrust-agent takes no arguments but --version; it is configured by environment variables.\n")
        raise SystemExit(2)
    try:
        found = settings.load()
        if os.geteuid() != 0:
            raise SettingsError("NQR-CFG-703", "The agent must run as root.", "Start it as root, or start its service.")
        log.configure(os.environ.get("AGENT_LOG_LEVEL", "INFO"))
        _confine()
        from nqrust.agent.server import Agent  # after the settings, so that a mistake there is reported first
        from nqrust.host.local import LocalHost

        agent = Agent(LocalHost(), found)
        lock = _only_one(found.state_dir)
        try:
            asyncio.run(agent.serve())
        finally:
            os.close(lock)
    except (SettingsError, HostError) as error:
        sys.stderr.write(f"nqrust-agent: {error}\n")
        raise SystemExit(2) from None


def _confine() -> None:
    """Before anything starts: threads and programs inherit the filter of the thread that they come from."""
    why_not = confinement.confine()
    if why_not:
        structlog.get_logger("nqrust.agent").warning("agent.not_confined", why=why_not)


def _only_one(state_dir: str) -> int:
    """Refuse to start beside another agent with the same state: both would believe that they hold a VM's lock."""
    lock = os.open(f"{state_dir}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(
            "NQR-CFG-704", f"Another agent runs with {state_dir}.", "Stop it, or set another AGENT_STATE_DIR."
        ) from None
    return lock


if __name__ == "__main__":
    main()

"""Runs the hops of verification, and remembers the canary's proof until something changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nqrust.contract import paths
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host
from nqrust.installer.context import Context
from nqrust.installer.engine.errors import VerifyFailed
from nqrust.installer.engine.events import Proof, Reporter, StepProgress
from nqrust.installer.platform.vmm_verdict import chosen
from nqrust.installer.proofs.canary import PROOF_FILE, Bird, cleared, depends_on, fly
from nqrust.installer.proofs.hops import local_address, run_hop
from nqrust.installer.proofs.standing import standing
from nqrust.installer.resources.env import manager_base
from nqrust.installer.settings.model import NetworkMode


def prove(
    context: Context, host: Host, events: Reporter, *, fresh: bool, check: Callable[[], None] = lambda: None
) -> tuple[Proof, ...]:
    """Run every hop in order and return the proofs. `fresh` False accepts a remembered canary if nothing that it depends on
    has changed. A failed standing hop prevents the canary. Calls `check` repeatedly; if it raises, the proving removes the
    canary and ends."""
    proofs: list[Proof] = []

    def tell(proof: Proof) -> None:
        proofs.append(proof)
        events.emit(proof)

    def progress(text: str) -> None:
        check()
        events.emit(StepProgress("canary", text))

    for hop in standing(context, host):
        check()
        tell(run_hop(hop, host))
    reason = _no_canary(context, proofs)
    if reason:
        tell(Proof("canary", "unproven", reason))
        return tuple(proofs)
    with _bird(context, host) as bird:
        for proof in cleared(host, bird):
            tell(proof)
        depends = depends_on(context, chosen(host))
        remembered = None if fresh else _remembered(host, depends)
        if remembered is not None:
            said = f"a VM booted and reported when this was installed ({remembered}); nothing changed since"
            tell(Proof("canary", "passed", said))
            return tuple(proofs)
        canary: list[Proof] = []
        for proof in fly(context, host, bird, progress):
            canary.append(proof)
            tell(proof)
    if all(p.verdict == "passed" for p in canary):
        _remember(host, depends, canary)
    elif host.exists(PROOF_FILE):
        host.remove(PROOF_FILE)
    return tuple(proofs)


def _no_canary(context: Context, proofs: list[Proof]) -> str:
    if any(p.verdict == "failed" for p in proofs):
        return "not tried, because an earlier hop failed"
    if context.release.form != "bundled":
        return "this release does not speak our API, so no VM can be asked for"
    if not context.settings.has_agent:
        return "no VM runs on a manager without an agent; join one with `nqr host token NAME`"
    return ""


@contextmanager
def _bird(context: Context, host: Host) -> Iterator[Bird]:
    """Yield a canary through the manager if this host runs one, otherwise through the agent. The manager places no VM on a
    cordoned host, so that a canary goes through the agent there, too."""
    from nqrust.client import calls  # here, because status and plan boot no VM and need none of it
    from nqrust.client.manager import ManagerClient
    from nqrust.installer.proofs.through_agent import AgentsCanary
    from nqrust.installer.proofs.through_manager import ManagersCanary

    settings = context.settings
    cordoned = False
    if settings.has_manager:
        token = context.secrets.cli_token.reveal()
        here = settings.agent.name or context.facts.hostname
        with ManagerClient(manager_base(context), token=token, timeout=30.0) as client:
            cordoned = any(one.name == here and one.cordoned for one in client.send(calls.list_hosts()).items)
            if not cordoned:
                yield ManagersCanary(host, client, here)
                return
    nat = settings.network.mode is not NetworkMode.bridged
    yield AgentsCanary(
        host,
        f"http://{local_address(settings.agent.bind)}",
        f"{paths.AGENT_STATE_DIR}/local-token",
        f"{context.layout.image_dir}/tiny",
        (settings.network.dhcp_first, settings.network.dhcp_last) if nat else None,
        "past the manager, because this host is cordoned" if cordoned else "",
    )


def unproven(proofs: tuple[Proof, ...]) -> VerifyFailed | None:
    """Return one failure for all failed hops, or None."""
    failed = [p for p in proofs if p.verdict == "failed"]
    if not failed:
        return None
    first = failed[0]
    more = f" ({len(failed) - 1} more)" if len(failed) > 1 else ""
    return VerifyFailed(first.code, f"Installed, but {first.hop} could not be proven: {first.detail}{more}.", first.cure)


def _remembered(host: Host, depends: dict[str, str]) -> str | None:
    try:
        raw = json.loads(host.read_text(PROOF_FILE))
        return str(raw["at"]) if raw["depends"] == depends else None
    except (PathMissing, ValueError, KeyError, TypeError):
        return None


def _remember(host: Host, depends: dict[str, str], canary: list[Proof]) -> None:
    at = _utc(host.now())
    body = {"at": at, "depends": depends, "hops": {p.hop: p.detail for p in canary}}
    host.write_file(PROOF_FILE, (json.dumps(body, indent=2) + "\n").encode(), mode=0o600)


def _utc(seconds: float) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

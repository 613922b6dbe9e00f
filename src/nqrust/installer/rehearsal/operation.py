"""`nqr install --rehearse`: run and measure the real install on an overlay clone of this host. The host does not change."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import nqrust
from nqrust.contract.paths import CACHE_DIR, LOCK_FILE
from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.facts.model import Facts
from nqrust.host.facts.reading import text
from nqrust.host.port import Command, Host, command
from nqrust.host.secret import Secret
from nqrust.host.signals import ENDING, handled
from nqrust.installer import operations
from nqrust.installer.engine.errors import Interrupted, NqrError, PreflightRefused, VerifyFailed
from nqrust.installer.engine.events import Notice, Reporter
from nqrust.installer.engine.lock import exclusive
from nqrust.installer.operations import leftovers
from nqrust.installer.operations.site import facts_for, open_site
from nqrust.installer.preflight import subnets
from nqrust.installer.rehearsal import boot, means, relay
from nqrust.installer.rehearsed import Heard, Rehearsal
from nqrust.installer.release.bundle.contents import is_bundle
from nqrust.installer.reporting.warnings import WarningsOnly
from nqrust.installer.request import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_ROLLED_BACK,
    EXIT_UNVERIFIED,
    PhaseSummary,
    ProofSummary,
    Request,
    Summary,
)

_LIMIT = 2 * 3600.0  # seconds for the install
_ALWAYS_UNMEASURED = (
    "The clone runs on this host's kernel: loading modules and kernel parameters outside of the network are not measured.",
    "The clone's network is separate. It lacks DHCP, IPv6, and the host's firewall rules and network manager. "
    "nqr checked ports and disk space on the host itself.",
    "The clone does not run the services of the host. A running database is in its state after a power cut.",
)  # fmt: skip
_OF_THE_HOST = ("NQR-PRE-006",)
"""Preflight checks that make sense only on the host itself: the clone's disk is its scratch space."""
_MODULES = ("bridge", "stp", "llc", "veth", "tun", "tap", "overlay", "nf_", "nft_", "nfnetlink", "xt_", "x_tables",
            "ip_tables", "ip6_tables", "iptable_", "ip6table_", "br_netfilter")  # fmt: skip
"""Prefixes of the kernel modules that a rehearsal can load."""


def rehearse(request: Request, arguments: tuple[str, ...], events: Reporter, *, cwd: str) -> Summary:
    """Rehearse an install. `arguments`: of `nqr install`, for the clone. Errors are in the summary, never raised."""
    try:
        with exclusive(LOCK_FILE, "install --rehearse", events):
            site = open_site(events)
            means.refuse_what_would_reach_out(request.settings, site.receipt)
            means.refuse_other_trees(site.host, request.settings)
            means.refuse_without_card(site.host)
            facts = facts_for(site.host, request.settings)
            return carry_out(site.host, facts, request, arguments, events, cwd=cwd)
    except PreflightRefused as error:
        return Summary("refused", EXIT_REFUSED, failure=error)
    except Interrupted as error:
        return Summary("failed", EXIT_INTERRUPTED, failure=error)
    except NqrError as error:
        return Summary("failed", EXIT_FAILED, failure=error)


def carry_out(
    host: Host, facts: Facts, request: Request, arguments: tuple[str, ...], events: Reporter, *, cwd: str,
    plan: Callable[[Request, Reporter], Summary] = operations.plan,
) -> Summary:  # fmt: skip
    """Plan on the host, then run the clone. Requires the installer's lock. Raises NqrError."""
    predicted = plan(request, WarningsOnly(events))
    if predicted.failure is not None:
        return predicted
    for path in leftovers.clear(host):
        events.emit(Notice("info", f"{path} was removed. An interrupted rehearsal had left it."))
    memory_mib = means.memory_needed(host, facts)
    began, modules = host.monotonic(), _modules(host)
    with _interruptible(), _scratch(host, events) as scratch:
        spec, notes = means.describe(
            host, facts, scratch=scratch, memory_mib=memory_mib, environment=host.environment(),
            arguments=(*arguments, *_vm_network(request, facts), *(f"--ignore-preflight={code}" for code in _OF_THE_HOST)),
            cwd=cwd, limit=_LIMIT, uplink=request.settings.network.uplink, connected=not is_bundle(request.settings.release.source),
        )  # fmt: skip
        heard = _run(host, spec.to_json(), spec.boot, events)
    _unload(host, _modules(host) - modules)
    left_out = tuple(f"{path} could not be taken along into the clone." for path in heard.left_out)
    without = () if spec.boot else ("Without systemd here, limits of VMs (control groups) are not measured.",)
    unconnected = (f"The clone had no network ({heard.without_network}).",) if heard.without_network else ()
    rehearsal = Rehearsal(
        seconds=host.monotonic() - began,
        install_seconds=heard.seconds,
        predicted=predicted.preview.changes if predicted.preview else 0,
        booted=spec.boot,
        paths=tuple(heard.paths),
        differences=tuple(heard.differences),
        unmeasured=(*_ALWAYS_UNMEASURED, *without, *unconnected, *notes, *left_out),
    )
    return _summary(heard, rehearsal)


def _vm_network(request: Request, facts: Facts) -> tuple[str, ...]:
    """Return the argument for the network that an install would choose here. The clone cannot see what it would overlap."""
    settings, hides = subnets.settled(request.settings, facts, request.explicit, None, frozenset())
    return (f"--network-cidr={settings.network.cidr}",) if hides else ()


def _run(host: Host, spec: str, with_systemd: bool, events: Reporter) -> Heard:
    heard = Heard()
    source = os.path.dirname(os.path.dirname(os.path.abspath(nqrust.__file__)))
    argv = boot.python(source, sys.executable, "nqrust.installer.rehearsal.clone", sys.pycache_prefix or "")
    if with_systemd:  # a control group that can be delegated (systemd, CGROUP_DELEGATION)
        unit = f"nqr-rehearsal-{secrets.token_hex(3)}"
        argv = (
            "systemd-run",
            "--scope",
            "--quiet",
            "--collect",
            f"--unit={unit}",
            "--description=Rehearsal of an install",
            "--property=Delegate=yes",
            *argv,
        )
    try:
        host.run(
            Command(argv, input=Secret(spec), timeout=_LIMIT + 600),
            on_line=lambda line: relay.hear(line, heard, events),
        )
    except CommandFailed as error:
        heard.reason = heard.reason or " / ".join(heard.output[-3:]) or str(error)
    except HostError as error:
        heard.reason = heard.reason or str(error)
    if heard.code is None or heard.reason:
        what = f"The rehearsal's clone could not be made: {heard.reason or 'it said nothing'}."
        if heard.started:
            what = f"The rehearsal's clone came down: {heard.reason or 'it said nothing'}."
            raise NqrError("NQR-RHS-007", what, "Try again. If this repeats, use --dry-run.")
        raise PreflightRefused(
            "NQR-RHS-006", what,
            "The kernel must allow namespaces and overlayfs (in a container: more privileges); else use --dry-run.",
        )  # fmt: skip
    return heard


def _summary(heard: Heard, rehearsal: Rehearsal) -> Summary:
    told: dict[str, Any] = heard.summary or {}
    inner = told.get("exit_code", heard.code)
    error = told.get("error") or {}
    code, what, cure = (str(error.get(name, "")) for name in ("code", "what", "cure"))
    failure: NqrError | None = None
    exit_code = EXIT_OK
    if inner == EXIT_UNVERIFIED:
        failure, exit_code = VerifyFailed(code, what, cure), EXIT_UNVERIFIED
    elif inner != 0:
        said = heard.output[-1] if heard.output else f"it ended with {heard.code}"
        failure = NqrError(code, what, cure) if code else NqrError(
            "NQR-RHS-008", f"The install in the clone failed: {said}.", "Fix the cause, then rehearse again.")  # fmt: skip
        exit_code = EXIT_ROLLED_BACK
    return Summary(
        "ok" if failure is None else "failed",
        exit_code,
        changed=int(told.get("changed", 0)),
        satisfied=int(told.get("satisfied", 0)),
        phases=tuple(PhaseSummary(p["name"], p["changed"], 0, p["seconds"]) for p in told.get("phases", ())),
        seconds=rehearsal.seconds,
        proofs=tuple(ProofSummary(**proof) for proof in told.get("proofs", ())),
        notes=tuple(told.get("notes", ())),
        failure=failure,
        rehearsal=rehearsal,
    )


@contextmanager
def _scratch(host: Host, events: Reporter) -> Iterator[str]:
    """Create a folder for the block, and remove it afterwards. Does the same with a missing cache folder."""
    made_cache = not host.exists(CACHE_DIR)
    if made_cache:
        host.mkdir(CACHE_DIR, mode=0o700)
    path = f"{CACHE_DIR}/{leftovers.PREFIX}{secrets.token_hex(4)}"
    host.mkdir(path, mode=0o700)
    try:
        yield path
    finally:
        with _deaf():
            events.emit(Notice("info", "Removing the clone."))
            host.remove_tree(path)
            if made_cache:
                host.rmdir(CACHE_DIR)


@contextmanager
def _interruptible() -> Iterator[None]:
    """End the clone on the first signal and raise Interrupted NQR-ENG-030. Nothing needs a rollback."""

    def handle(number: int, frame: FrameType | None) -> None:
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(
            "NQR-ENG-030",
            f"Stopped by {signal.Signals(number).name}.",
            "Run the same command again when you are ready.",
        )

    with handled(ENDING, handle):
        yield


@contextmanager
def _deaf() -> Iterator[None]:
    """Block signals until the block ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def _modules(host: Host) -> set[str]:
    return {line.split(" ")[0] for line in text(host, "/proc/modules").splitlines()}


def _unload(host: Host, loaded: set[str]) -> None:
    """Unload kernel modules that were loaded for the clone, unless something uses them now."""
    ours = {name for name in loaded if name.startswith(_MODULES)}
    for _ in range(len(ours) and 5):  # repeats, so that users of a module go first
        for name in sorted(ours):
            try:
                host.run(command("rmmod", name, timeout=20))
                ours.discard(name)
            except HostError:
                continue

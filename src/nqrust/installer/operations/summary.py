"""The result of an operation, as the command line shows it."""

from __future__ import annotations

from dataclasses import replace

from nqrust.contract import names
from nqrust.installer.context import Context
from nqrust.installer.engine.errors import Interrupted, NqrError, PreflightRefused, UsageError, VerifyFailed
from nqrust.installer.engine.events import Proof
from nqrust.installer.engine.runner import RunResult
from nqrust.installer.phases import deps, network
from nqrust.installer.proofs.hops import local_address
from nqrust.installer.request import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_ROLLED_BACK,
    EXIT_UNVERIFIED,
    Outcome,
    PhaseSummary,
    PlanPreview,
    ProofSummary,
    Request,
    Summary,
)
from nqrust.installer.settings.model import NetworkMode, TlsMode
from nqrust.installer.supervisor.holding import split_bind
from nqrust.installer.verbs.network.own_card import OwnCard
from nqrust.tls import pinning

_PLAIN = "With --tls off, everybody on the network can read passwords and tokens that reach this host without a proxy with TLS."
_EMULATION = ("VMs run under QEMU emulation here, because no VM boots under KVM. Everything works, but many times slower.",)


def refused(error: NqrError, request: Request) -> Summary:
    """Return the summary of an operation that changed nothing because of `error`."""
    outcome: Outcome = "refused" if isinstance(error, (PreflightRefused, UsageError)) else "failed"
    exit_code = error.exit_code if outcome == "refused" else EXIT_FAILED
    return Summary(outcome, exit_code, failure=error, log_path=request.run.log_path)


def declined(request: Request) -> Summary:
    return Summary("ok", EXIT_OK, notes=("Nothing was changed.",), log_path=request.run.log_path)


def previewed(preview: PlanPreview, request: Request) -> Summary:
    return Summary(
        "ok",
        EXIT_OK,
        changed=0,
        satisfied=preview.satisfied,
        preview=preview,
        log_path=request.run.log_path,
        notes=tuple(preview.warnings),
    )


def finished(result: RunResult, proofs: tuple[Proof, ...], context: Context, request: Request, vmm: str = "") -> Summary:
    """Return the summary of an install: done, failed, rolled back, or done but unproven. `vmm`: the chosen VMM and
    accelerator."""
    outcome, exit_code = _verdict(result)
    done = outcome == "ok" or isinstance(result.failure, VerifyFailed)
    return Summary(
        outcome,
        exit_code,
        changed=result.changed,
        satisfied=result.satisfied,
        phases=tuple(PhaseSummary(p.name, p.changed, p.satisfied, p.seconds) for p in result.phases),
        seconds=result.seconds,
        urls=urls(context) if done else {},
        elsewhere=elsewhere(context) if done else {},
        authority=pinning.fingerprint(context.secrets.authority) if done and _has_tls(context) else "",
        notes=(
            *_notes(result, proofs),
            *_switched(context, result),
            *_other_network(context, result),
            *(_own_card(context) if done and result.changed else ()),
            *((_PLAIN,) if done and context.settings.has_manager and context.settings.tls.mode is TlsMode.off else ()),
            *(_EMULATION if done and vmm.endswith(" tcg") else ()),
        ),
        failure=result.failure,
        proofs=tuple(ProofSummary(p.hop, p.verdict, p.detail, p.code, p.cure, p.seconds) for p in proofs),
        log_path=request.run.log_path,
        admin_password_file=context.layout.admin_password_file if done and context.settings.has_manager else "",
    )


def _verdict(result: RunResult) -> tuple[Outcome, int]:
    if result.failure is None:
        return "ok", EXIT_OK
    if isinstance(result.failure, VerifyFailed):
        return "failed", EXIT_UNVERIFIED
    if result.rollback is not None and result.rollback.failed:
        return "partly_undone", EXIT_INTERRUPTED if isinstance(result.failure, Interrupted) else EXIT_FAILED
    if isinstance(result.failure, Interrupted):
        return ("rolled_back" if result.outcome == "rolled_back" else "failed"), EXIT_INTERRUPTED
    if result.outcome == "rolled_back":
        return "rolled_back", EXIT_ROLLED_BACK
    if result.outcome == "refused":
        return "refused", EXIT_REFUSED
    return "failed", EXIT_FAILED


def _notes(result: RunResult, proofs: tuple[Proof, ...]) -> tuple[str, ...]:
    notes = [f"Not proven here: {p.hop} ({p.detail})." for p in proofs if p.verdict == "unproven"]
    if result.resumed:
        notes.append("This run continued an interrupted run.")
    if result.changed:
        notes += result.retired.stays
    notes += [f"Left on purpose: {text}." for text in result.retired.kept]
    if result.rollback is not None:
        notes += [f"Left on purpose: {text}." for text in (*result.rollback.kept, *result.rollback.waits)]
        notes += [f"Could not be undone and stays recorded: {text}." for text in result.rollback.failed]
    return tuple(notes)


def _own_card(context: Context) -> tuple[str, ...]:
    """Return a note on the host's card in nqr's own bridge."""
    if not context.settings.has_agent or context.settings.network.mode is not NetworkMode.bridged:
        return ()
    step = network.to_the_lan(context)
    if not isinstance(step, OwnCard):
        return ()
    return (
        f"{step.link} is a port of {step.bridge}, which has the addresses of this host. `nqr uninstall` gives them back, and also"
        " waits for a connection or a confirmation.",
    )


def _switched(context: Context, result: RunResult) -> tuple[str, ...]:
    """Return notes on what a change of settings leaves. A re-run never removes packages: other programs may use them now, and
    switching back then needs no network."""
    if not context.former or not result.changed or result.failure is not None:
        return ()
    before, now, notes = context.former[-1], context.settings, []
    if set(deps.roles(replace(context, settings=before))) - set(deps.roles(context)):
        notes.append("Packages that only the removed parts needed stay; `nqr uninstall` removes them.")
    if before.has_agent and not now.has_agent and now.has_manager:
        name = before.agent.name or context.facts.hostname
        notes.append(f"The manager still lists this host; `nqr host rm {name}` removes it there.")
    return tuple(notes)


def _other_network(context: Context, result: RunResult) -> tuple[str, ...]:
    """Return a note where the first install chose another VM network than the default."""
    network = context.settings.network
    chosen = context.settings.has_agent and "network.cidr" not in context.explicit and network.cidr != names.NAT_CIDR
    if not chosen or not result.changed or result.failure is not None:
        return ()
    return (f"VMs have the network {network.cidr}, because {names.NAT_CIDR} is in use here.",)


def _has_tls(context: Context) -> bool:
    return context.settings.has_manager and context.release.form == "bundled"


def elsewhere(context: Context) -> dict[str, str]:
    """Return the addresses of the web UI and the manager for other machines. Empty if they listen on loopback only."""
    settings, found = context.settings, {}
    services = (("ui", settings.has_ui, settings.ui.bind), ("manager", settings.has_manager, settings.manager.bind))
    for name, there, bind in services:
        address, port = split_bind(bind)
        address = context.facts.network.own_address if address in ("0.0.0.0", "::", "[::]") else address
        if there and address and not address.startswith("127.") and _has_tls(context):
            found[name] = f"https://{address}:{port}"
    return found


def urls(context: Context) -> dict[str, str]:
    """Return the addresses of this host's services, as seen from the host."""
    settings = context.settings
    found = {}
    if settings.has_ui:
        found["ui"] = f"http://{local_address(settings.ui.bind)}"
    if settings.has_manager:
        found["manager"] = f"http://{local_address(settings.manager.bind)}"
    if settings.has_agent:
        found["agent"] = f"http://{local_address(settings.agent.bind)}"
    return found

"""The sentences of the screens: styled lines of facts, checks, the review and the end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nqrust.guide import fields, forecast
from nqrust.guide.heard import Course
from nqrust.host.facts.model import Facts
from nqrust.installer.operations.looking import HostLook
from nqrust.installer.preflight import subnets
from nqrust.installer.preflight.findings import Finding, Severity
from nqrust.installer.preflight.run import Checked
from nqrust.installer.reporting import wording
from nqrust.installer.request import PlanPreview, ProofSummary, Summary
from nqrust.installer.settings.model import DbType, NetworkMode, TlsMode
from nqrust.installer.settings.sources import Gathered

Line = tuple[str, str]
"""Style (plain | bold | dim | good | bad | warn) and text. The text alone says all: colour only repeats it."""

_MARKS = {Severity.error: ("bad", "STOP"), Severity.warning: ("warn", "warn"), Severity.info: ("plain", "note")}


def gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"


def fact_lines(facts: Facts) -> Iterator[Line]:
    kvm = "KVM works" if facts.kvm.usable else "no KVM"
    yield "plain", f"System    {facts.os.pretty_name or facts.os.id}, kernel {facts.kernel.release}"
    yield "plain", f"Machine   {wording.counted(facts.cpu.count, 'CPU')}, {gib(facts.memory.total_mib)} memory, {kvm}"
    disks = {fs.mount_point: fs for fs in facts.file_systems}
    for fs in disks.values():
        yield "plain", f"Disk      {gib(fs.available_mib)} free on {fs.mount_point}"
    address = facts.network.own_address
    yield "plain", f"Network   {facts.network.uplink or 'no default route'}{f', {address}' if address else ''}"


def check_lines(checked: Iterable[Checked]) -> Iterator[Line]:
    """Yield a line for each check, and its findings with code and cure below it."""
    for one in checked:
        if not one.findings:
            if one.title != "Chosen for this host":
                yield "good", f"ok    {one.title}"
            continue
        worst = min(one.findings, key=lambda f: list(Severity).index(f.severity))
        style, mark = _MARKS[worst.severity]
        yield style, f"{mark:<5} {one.title}"
        for finding in one.findings:
            yield from _finding_lines(finding)


def _finding_lines(finding: Finding) -> Iterator[Line]:
    yield "plain", f"      {finding.code}  {finding.what}"
    if finding.cure:
        yield "dim", f"      cure: {finding.cure}"


def problems(look: HostLook) -> int:
    return sum(f.severity is Severity.error for one in look.checked for f in one.findings)


def verdict_lines(look: HostLook) -> Iterator[Line]:
    """Yield what the checks mean, first."""
    if look.unfinished == "uninstall":
        yield "warn", "An uninstall was interrupted here. This install puts the platform back; `nqr uninstall` removes the rest."
    elif look.unfinished:
        yield "warn", f"A run of {look.unfinished} was interrupted here. This install continues it; `nqr rollback` undoes it."
    if look.installed:
        yield "plain", "NQRust-MicroVM is installed here. An install applies changed settings."
    count = problems(look)
    if count:
        yield "bad", f"{wording.counted(count, 'problem')} would stop the install. See STOP below, or choose other settings."
    else:
        yield "good", "This host is ready for the install."


def subnet_line(found: Gathered, look: HostLook | None) -> Line:
    """Return the state of the VM network on this host: free, or what it hides."""
    settings = found.settings
    if look is None or not settings.has_agent:
        return "dim", ""
    if settings.network.mode is NetworkMode.bridged:
        uplink = settings.network.uplink or look.facts.network.uplink
        return "dim", f"VMs join the LAN of {uplink or 'this host, which has no default route'}."
    ours = frozenset({settings.network.bridge_name, *look.bridges})
    hides = subnets.overlap(subnets.Net(settings.network.cidr), look.facts, ours)
    if not hides:
        return "good", f"{settings.network.cidr} is free here."
    free = subnets.free(look.facts, ours)
    if "network.cidr" in found.explicit:
        return "bad", f"{settings.network.cidr} overlaps {hides}.{f' Free: {free}' if free else ''}"
    return "warn", f"{settings.network.cidr} overlaps {hides}." + (f" nqr takes {free} instead." if free else "")


def exposed_lines(found: Gathered, facts: Facts) -> Iterator[Line]:
    """Yield who can reach what after the install."""
    settings = found.settings
    tls = settings.tls.mode is TlsMode.on
    here = facts.network.own_address or "ADDRESS"
    listed = (("Web UI", settings.has_ui, settings.ui.bind), ("Manager", settings.has_manager, settings.manager.bind))
    for name, there, bind in listed:
        address, _, port = bind.rpartition(":")
        if not there:
            continue
        if address.startswith("127.") or address == "localhost":
            yield "good", f"{name:<9} this host only, http://{bind}"
            continue
        shown = here if address in ("0.0.0.0", "[::]") else address
        way = f"https://{shown}:{port} with sign-in" if tls else f"{shown}:{port}, also plain HTTP"
        yield "plain" if tls else "warn", f"{name:<9} {way}"
    if settings.has_agent:
        yield "plain", f"Agent     {settings.agent.bind}, only for the manager"
    if settings.has_agent and settings.network.mode is NetworkMode.bridged:
        yield "warn", "VMs       every machine of the LAN reaches them"
    if settings.has_manager and settings.database.type is DbType.local:
        yield "good", "Database  this host only"


def review_lines(found: Gathered, preview: PlanPreview, facts: Facts, *, keeps: bool = False) -> Iterator[Line]:
    """Yield the plan for a decision. `keeps`: a failure leaves its changes."""
    steps = [step for phase in preview.phases for step in phase.changes]
    phases = [phase for phase in preview.phases if phase.changes]
    yield (
        "bold",
        f"{wording.counted(len(steps), 'change')} in {wording.counted(len(phases), 'phase')}, {preview.satisfied} already so.",
    )
    yield "plain", "  " + ", ".join(f"{phase.name} {len(phase.changes)}" for phase in phases)
    yield "plain", ""
    yield "bold", "Exposed"
    for style, text in exposed_lines(found, facts):
        yield style, f"  {text}"
    yield "plain", ""
    yield "plain", f"Time      {forecast.words(forecast.total(steps))}, with a test VM at the end."
    yield "plain", f"Disk      up to 3 GB below {found.settings.paths.install_dir} and /var, plus your VMs."
    yield "plain", "Undo      `nqr uninstall`. It keeps VM disks, images and the database unless you say otherwise."
    if keeps:
        yield "warn", "          Ctrl-C rolls this run back. A failure keeps its changes (--on-failure keep)."
    else:
        yield "plain", "          A failure or Ctrl-C rolls this run back."
    for warning in (*found.notes, *preview.warnings):
        yield "warn", warning


def refusal_lines(summary: Summary) -> Iterator[Line]:
    assert summary.failure is not None
    yield "bad", "This install cannot start. Nothing was changed."
    yield "plain", ""
    for line in wording.error_lines(summary.failure):
        yield ("dim" if line.startswith("  cure") else "plain"), line
    yield "plain", ""
    yield "plain", "Fix the cause and press r, or press Esc and choose other settings."


def course_lines(course: Course, step: str) -> Iterator[Line]:
    """Yield a line for each phase. `step`: the running step with its time."""
    for phase in course.phases:
        if phase.state == "waiting":
            yield "dim", f"      {phase.name}"
        elif phase.state == "running":
            count = f"{min(phase.finished + 1, phase.steps)} of {phase.steps}: " if phase.steps else ""
            yield "bold", f">     {phase.name:<9} {count}{step}"
        else:
            changed = f"{phase.changed} changed, " if phase.name != "verify" else ""
            style, mark = ("good", "ok") if phase.state == "done" else ("bad", "FAIL")
            yield style, f"{mark:<5} {phase.name:<9} {changed}{wording.duration(phase.seconds)}"
    for notice in course.notices:
        code = f"{notice.code}  " if notice.code else ""
        yield "warn", f"{code}{notice.text}"
        if notice.cure:
            yield "dim", f"  cure: {notice.cure}"


def end_lines(summary: Summary, sign_in: str) -> Iterator[Line]:
    """Yield the end of an install: the outcome, the failure with its cure, the addresses, the next commands, and the proof.
    `sign_in`: how to sign in, see `sign_in`."""
    good = summary.outcome == "ok" and summary.exit_code == 0
    yield ("good" if good else "bad"), wording.headline("install", summary)
    yield "dim", wording.figures(summary)
    if summary.failure is not None:
        yield "plain", ""
        for line in wording.error_lines(summary.failure):
            yield ("dim" if line.startswith("  cure") else "bad"), line
    yield "plain", ""
    yield from _way_in(summary, sign_in)
    yield from next_lines(summary)
    if summary.log_path:
        yield "dim", f"Log       {summary.log_path}"
    notes = wording.run_notes("install", summary)
    if notes:
        yield "plain", ""
    for note in notes:
        yield "warn", note
    if summary.proofs:
        yield "plain", ""
        yield "bold", "Proof"
    for proof in summary.proofs:
        yield ("plain" if proof.verdict == "passed" else "warn"), f"  {wording.proof_line(proof)}"
        yield from _proof_cure(proof)


def sign_in(summary: Summary, password: str, *, chosen: bool) -> str:
    """Return how the administrator signs in. `password`: the generated one, which this screen shows once."""
    if not summary.admin_password_file:
        return ""
    if chosen:
        return "admin, with the password that you chose"
    return (
        f"admin, with the password {password}" if password else f"admin; the first password is in {summary.admin_password_file}"
    )


def _proof_cure(proof: ProofSummary) -> Iterator[Line]:
    if proof.cure and proof.verdict != "passed":
        yield "dim", f"    {proof.code}  cure: {proof.cure}"


def _way_in(summary: Summary, sign_in: str) -> Iterator[Line]:
    titles = {"ui": "Web UI", "manager": "Manager"}
    for name, url in (summary.elsewhere or {n: u for n, u in summary.urls.items() if n in titles}).items():
        where = "" if summary.elsewhere else ", on this host only"
        yield "bold", f"{titles.get(name, name):<9} {url}{where}"
    if sign_in:
        yield "bold", f"Sign in   {sign_in}"
    if summary.authority:
        yield "dim", f"Authority {summary.authority} (SHA-256). Compare it in the browser."


def next_lines(summary: Summary) -> Iterator[Line]:
    """Yield the next commands."""
    if summary.outcome == "ok" and summary.exit_code == 0:
        two = ("nqr vm create web1 --image tiny", "nqr vm console web1")
        commands = two if "manager" in summary.urls else ("nqr status", "nqr verify")
    elif summary.exit_code == 4:
        commands = ("nqr doctor", "nqr install")
    elif summary.outcome in ("failed", "partly_undone") and summary.phases:
        commands = ("nqr install", "nqr rollback")
    else:
        commands = ("nqr install", "nqr status")
    yield "bold", f"Next      {commands[0]}"
    yield "bold", f"          {commands[1]}"


def exposure_choices(found: Gathered) -> tuple[tuple[str, str], ...]:
    """Return the choices of the exposure, with the addresses that somebody gave if they are neither."""
    field = fields.FIELDS[fields.EXPOSURE]
    if fields.shown_value(field, found, {}) != fields.OTHER:
        return field.choices
    return (*field.choices, (fields.OTHER, f"{found.settings.manager.bind}, {found.settings.ui.bind}"))

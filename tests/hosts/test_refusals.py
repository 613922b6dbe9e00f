"""Bad input on a pristine host: the installer returns an exit code, an error code and a cure, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import pytest

from tests.hosts import product
from tests.hosts.machine import Fingerprint, Machine, Result

pytestmark = pytest.mark.timeout(1500)

CLONE = "/usr/src/nqrust"
"""Not in root's home: somebody who is not root starts it too."""
NEVER_RUN = "/root/proof-of-execution"


@pytest.fixture(scope="module")
def host() -> Iterator[Machine]:
    with Machine() as machine:
        machine.clone_repository(CLONE)
        yield machine


def start(host: Machine, *arguments: str, **options: Any) -> Result:
    return product.bootstrap(host, *arguments, clone=CLONE, check=False, **options)


def refused(result: Result, exit_code: int, code: str) -> product.Refusal:
    """The refusal with this code; it must have come with a cure and this exit code."""
    found = [one for one in product.refusal(result) if one.code == code]
    assert result.code == exit_code and found, f"expected {exit_code} {code}: {result.describe()}"
    assert len(found[0].cure) > 10, result.describe()
    return found[0]


# --- before the bootstrap has made anything at all


def test_a_mistyped_option_does_not_even_start_the_bootstrap(host: Machine) -> None:
    before = host.mark()
    assert "--mode" in refused(start(host, "--mdoe", "production"), 2, "NQR-USE-002").cure
    refused(start(host, "--mode", "prodcution"), 2, "NQR-USE-003")
    assert product.touched(host, before) == [] and not host.exists(product.CACHE)


def test_install_requires_root(host: Machine) -> None:
    before = host.mark()
    result = start(host, "--non-interactive", user="daemon")
    assert "sudo" in refused(result, 2, "NQR-USE-001").cure
    assert product.touched(host, before) == [] and not host.exists(product.CACHE)


# --- from here on the bootstrap's cache is there


@pytest.fixture(scope="module")
def pristine(host: Machine) -> tuple[Fingerprint, Result]:
    """The fingerprint from before the first plan, and that plan."""
    before = host.fingerprint()
    return before, start(host, env={"NQR_VERB": "plan"})


def test_a_plan_on_a_pristine_host_changes_nothing(host: Machine, pristine: tuple[Fingerprint, Result]) -> None:
    before, planned = pristine
    assert planned.code == 0, planned.describe()
    for expected in ("postgresql", "fcbr0", "nqrust-manager", "/etc/nqrust-microvm/manager.env"):
        assert expected in planned.stdout
    assert before.diff(host.fingerprint()) == []
    mark = host.mark()
    assert start(host, "--detailed-exitcode", env={"NQR_VERB": "plan"}).code == 10
    for mode, there, not_there in (
        ("minimal", "nqrust-agent.service", "nqrust-ui"),
        ("dev", "nqrust-ui.service", "nothing like that"),
        ("manager", "nqrust-manager.service", "nqrust-agent"),
    ):
        shown = start(host, "--mode", mode, "--dry-run", "--non-interactive")
        assert shown.code == 0 and there in shown.stdout and not_there not in shown.stdout, shown.describe()
    assert product.touched(host, mark) == []
    assert before.diff(host.fingerprint()) == []


@contextmanager
def overlaid(host: Machine, path: str, content: str) -> Iterator[None]:
    """Another content at `path` for a while, without touching the disk."""
    host.write("/tmp/overlaid", content)
    host.run(f"mount --bind /tmp/overlaid {path}")
    try:
        yield
    finally:
        host.run(f"umount {path}")


@contextmanager
def mounted(host: Machine, what: str, path: str) -> Iterator[None]:
    host.run(f"mount -t tmpfs -o {what} tmpfs {path}")
    try:
        yield
    finally:
        host.run(f"umount {path}")


@contextmanager
def listening(host: Machine, port: int) -> Iterator[None]:
    server = host.start(["python3", "-m", "http.server", str(port)])
    host.wait_for(f"ss -Hlnt sport = :{port} | grep -q .", timeout=30)
    try:
        yield
    finally:
        server.kill()


@contextmanager
def locked(host: Machine) -> Iterator[None]:
    """As a running `nqr install` holds it."""
    holder = host.start(["python3", "-c", (
        "import fcntl,os,json,time\nf=os.open('/run/nqrust-install.lock',os.O_RDWR|os.O_CREAT,0o600)\n"
        "fcntl.flock(f,fcntl.LOCK_EX)\nos.write(f,json.dumps({'pid':os.getpid(),'verb':'install','since':time.time()}).encode())\n"
        "time.sleep(600)"
    )])  # fmt: skip
    host.wait_for("test -s /run/nqrust-install.lock", timeout=30)
    try:
        yield
    finally:
        holder.kill()
        host.run("rm -f /run/nqrust-install.lock")


@contextmanager
def foreign(host: Machine, path: str) -> Iterator[None]:
    host.write(path, "[Unit]\n")
    try:
        yield
    finally:
        host.run(["rm", path])
        if path.startswith("/opt/"):
            host.run(["rm", "-r", "/opt/nqrust-microvm"])


@contextmanager
def bridge_without_a_card(host: Machine) -> Iterator[None]:
    """Made by the administrator, with an address, and so far without a port."""
    host.run("ip link add vmbr0 type bridge && ip address add 10.9.0.1/24 dev vmbr0 && ip link set vmbr0 up")
    try:
        yield
    finally:
        host.run("ip link delete vmbr0")


@contextmanager
def release_on_loopback(host: Machine) -> Iterator[None]:
    """A release in upstream's form, served where an install could fetch it; and the same packed into a file."""
    host.run(
        "mkdir -p /tmp/www/v1.0 && cd /tmp/www/v1.0 && for n in manager agent guest-agent; do echo $n > nqrust-$n-x86_64-linux-musl; done"
        " && sha256sum nqrust-* > checksums.txt && tar -czf /tmp/bundle.tgz ."
    )
    server = host.start(["python3", "-m", "http.server", "8999", "--bind", "127.0.0.1", "--directory", "/tmp/www"])
    host.wait_for("ss -Hlnt sport = :8999 | grep -q .", timeout=30)
    try:
        yield
    finally:
        server.kill()


@contextmanager
def config(host: Machine, text: str) -> Iterator[None]:
    host.write("/tmp/config.yaml", text)
    yield


@contextmanager
def nothing(host: Machine) -> Iterator[None]:
    yield


class Case(NamedTuple):
    name: str
    exit_code: int
    code: str
    says: str
    """A regular expression for what it says is wrong."""
    arguments: tuple[str, ...] = ()
    given: tuple[object, ...] = (nothing,)
    """A context manager of a host, and its further arguments."""
    env: tuple[tuple[str, str], ...] = ()


OS = 'ID={0}\nVERSION_ID="{1}"\nVERSION_CODENAME=x\nPRETTY_NAME="{0} {1}"\n'
CONFIG = ("--config", "/tmp/config.yaml")
CASES = [
    Case("a port out of range", 2, "NQR-USE-003", "db-port|database.port", ("--db-port", "99999")),
    Case("a bad bridge name", 2, "NQR-USE-003", "bridge", ("--bridge-name", "far-too-long-for-a-link")),
    Case("no such file", 2, "NQR-CFG-", "missing.yaml", ("--config", "/tmp/missing.yaml")),
    Case("malformed YAML", 2, "NQR-CFG-", "line 2", CONFIG, (config, "mode: production\n  network: [\n")),
    Case("an unknown key", 2, "NQR-CFG-", "brigde_name", CONFIG, (config, "network:\n  brigde_name: x\n")),
    Case("a wrong type", 2, "NQR-CFG-", "port", CONFIG, (config, "database:\n  port: many\n")),
    Case("YAML that would run something", 2, "NQR-CFG-", "python/object", CONFIG,
         (config, f"mode: !!python/object/apply:os.system ['touch {NEVER_RUN}']\n")),
    Case("a port in use", 3, "NQR-PRE-007", r"18080.*python3 \(process \d+\)", (), (listening, 18080)),
    Case("a port in use by choice", 3, "NQR-PRE-007", r"3001.*python3", ("--ui-bind", "0.0.0.0:3001"), (listening, 3001)),
    Case("too little memory", 3, "NQR-PRE-005", "1000 MiB|memory", (),
         (overlaid, "/proc/meminfo", "MemTotal: 1024000 kB\nMemFree: 900000 kB\nMemAvailable: 900000 kB\nBuffers: 0 kB\nCached: 0 kB\n")),
    Case("too little disk", 3, "NQR-PRE-006", "/srv/fc.*100 MiB", (), (mounted, "size=100m", "/srv")),
    Case("a read-only disk", 3, "NQR-PRE-018", "read-only", (), (mounted, "ro", "/srv")),
    Case("an old Debian", 3, "NQR-PRE-002", "10", (), (overlaid, "/etc/os-release", OS.format("debian", "10"))),
    Case("another system", 3, "NQR-PRE-002", "slackware", (), (overlaid, "/etc/os-release", OS.format("slackware", "15"))),
    Case("another architecture", 3, "NQR-PRE-003", "aarch64", (), (overlaid, "/proc/sys/kernel/arch", "aarch64\n")),
    Case("a remote database without a password", 3, "NQR-DB-010", "password", ("--db-type", "remote", "--db-host", "127.0.0.1")),
    Case("an unreachable database", 3, "NQR-DB-014", "127.0.0.1:5432",
         ("--db-type", "remote", "--db-host", "127.0.0.1", "--db-password-file", "/etc/hostname")),
    Case("an unreachable manager", 3, "NQR-PRE-024", "127.0.0.1:9",
         ("--mode", "agent", "--manager-url", "http://127.0.0.1:9", "--join-token-file", "/etc/hostname")),
    Case("a foreign installation", 3, "NQR-PRE-015", "/opt/nqrust-microvm", (), (foreign, "/opt/nqrust-microvm/bin/manager")),
    Case("a foreign unit", 3, "NQR-PRE-015", "nqrust-manager.service", (), (foreign, "/etc/systemd/system/nqrust-manager.service")),
    Case("Firecracker without an archive", 3, "NQR-REL-040", "Firecracker 1.13.1", ("--vmm", "firecracker")),
    Case("a Firecracker archive that is missing", 3, "NQR-REL-043", "/tmp/none.tgz", ("--vmm", "firecracker"), (nothing,),
         (("NQR_FIRECRACKER_ARCHIVE", "/tmp/none.tgz"), ("NQR_FIRECRACKER_SHA256", "0" * 64))),
    Case("a Firecracker archive with another digest", 3, "NQR-REL-043", "sha256 of /etc/hostname", ("--vmm", "firecracker"), (nothing,),
         (("NQR_FIRECRACKER_ARCHIVE", "/etc/hostname"), ("NQR_FIRECRACKER_SHA256", "0" * 64))),
    Case("an archive without its digest", 3, "NQR-REL-043", "not the published archive", (), (nothing,),
         (("NQR_FIRECRACKER_ARCHIVE", "/etc/hostname"),)),
    Case("an address without a release", 3, "NQR-REL-021", "http://127.0.0.1:8999/none", ("--release", "http://127.0.0.1:8999/none"), (release_on_loopback,)),
    Case("a release in a file", 3, "NQR-REL-019", "/tmp/bundle.tgz", ("--release", "/tmp/bundle.tgz"), (release_on_loopback,)),
    Case("a release over plain HTTP", 3, "NQR-REL-027", "http://releases.example/v1", ("--release", "http://releases.example/v1")),
    Case("a key for no release", 2, "NQR-CFG-009", "--release-key", ("--release-key", "/etc/hostname")),
    Case("no source tree", 3, "NQR-REL-001", "/etc is not a complete source tree", ("--source", "/etc")),
    Case("bridged mode on a card that no manager has configured", 3, "NQR-NET-151", "host0", ("--network-mode", "bridged")),
    Case("bridged mode by force", 3, "NQR-NET-151", "host0", ("--network-mode", "bridged", "--ignore-preflight", "NQR-NET-151")),
    Case("bridged mode on a bridge without a card", 3, "NQR-NET-136", "vmbr0",
         ("--network-mode", "bridged", "--bridge-name", "vmbr0"), (bridge_without_a_card,)),
    Case("an uplink that NAT does not use", 2, "NQR-CFG-009", "--uplink", ("--uplink", "eth9")),
    Case("an address of another host", 3, "NQR-PRE-052", "198.51.100.7", ("--manager-bind", "198.51.100.7:18080")),
    Case("nested without modules", 3, "NQR-PRE-051", "nested|Nested", ("--nested",)),
    Case("programs that cannot run", 3, "NQR-PRE-050", "/opt is mounted noexec", (), (mounted, "noexec,size=40g", "/opt")),
    Case("a read-only /usr/local", 3, "NQR-PRE-018", "/usr/local", (), (mounted, "ro", "/usr/local")),
    Case("a second installer", 1, "NQR-ENG-020", r"nqr install.*process \d+", (), (locked,)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input_is_refused_and_nothing_is_touched(host: Machine, pristine: object, case: Case) -> None:
    make, *more = case.given
    given: AbstractContextManager[None] = make(host, *more)  # type: ignore[operator]
    with given:
        before = host.mark()
        install = f"{CLONE}/scripts/install/install.sh"
        result = host.run([install, "--non-interactive", *case.arguments], check=False, env=dict(case.env))
        assert product.touched(host, before) == []
        if case.exit_code == 3:
            planned = host.run([install, *case.arguments], check=False, env={**dict(case.env), "NQR_VERB": "plan"})
            assert planned.code == 3 and case.code in planned.stderr + planned.stdout, f"the plan: {planned.describe()}"
            assert product.touched(host, before) == []
    found = [one for one in product.refusal(result) if one.code.startswith(case.code)]
    assert result.code == case.exit_code and found, f"expected {case.exit_code} {case.code}: {result.describe()}"
    assert any(re.search(case.says, one.what) for one in found), found
    assert all(len(one.cure) > 10 for one in found), found
    assert not host.exists(NEVER_RUN)


def test_an_accepted_preflight_error_becomes_a_warning(host: Machine, pristine: object) -> None:
    with mounted(host, "size=100m", "/srv"):
        result = start(host, "--dry-run", "--non-interactive", "--ignore-preflight", "NQR-PRE-006")
    assert result.code == 0, result.describe()
    assert "NQR-PRE-006" in result.stdout + result.stderr


def test_host_is_unchanged_after_refusals(host: Machine, pristine: tuple[Fingerprint, Result]) -> None:
    assert "\n".join(pristine[0].diff(host.fingerprint())) == ""

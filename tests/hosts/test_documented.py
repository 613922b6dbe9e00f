"""Run the commands of README and docs/, block by block, on one host: from a clean clone to the removal.

A marker before each block names the omitted lines and the reason (tests/documentation/pages.py).
tests/unit/documentation checks that this file runs every block.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.documentation import pages
from tests.documentation.pages import Block
from tests.hosts import product, warm
from tests.hosts.machine import Fingerprint, Machine, Result
from tests.hosts.product import CLONE, CONFIG, document, eventually, fetch

pytestmark = pytest.mark.timeout(3000)

NAME = "h2"
"""What the documentation calls a host."""
BUSY = ("creating", "starting", "stopping", "deleting", "pending")
PASSWORDS = ("a long password of ann", "another password of ann")


@dataclass
class Reader:
    """Somebody who types what the documentation says, in a clone of the repository."""

    host: Machine
    before: Fingerprint

    def types(self, line: str, *, input: bytes | None = None, timeout: float = 900, check: bool = True) -> Result:
        """One line, through the shell; without a terminal."""
        if not self.host.exists("/usr/bin/sudo"):
            line = line.removeprefix("sudo ")
        return self.host.run(f"cd {shlex.quote(CLONE)} && {line}", input=input, timeout=timeout, check=check)

    def answers(self, line: str, word: str, *, check: bool = True) -> Result:
        """The same at a terminal, where `word` is typed when it asks."""
        return self.types(f"{{ sleep 3; echo {word}; sleep 2; }} | script -qec {shlex.quote(line)} /dev/null", check=check)

    def plays(self, block: Block, **inputs: bytes) -> list[Result]:
        """All of a block that bears no marker, line by line, each when the VMs have come to rest; each ends with exit code 0.
        `inputs`: what is typed into the command of that name (`vm_console`)."""
        said = []
        for line in block.to_run:
            self.comes_to_rest()
            typed = next((given for name, given in inputs.items() if f"nqr {name.replace('_', ' ')} " in line), None)
            said.append(self.types(line, input=typed))
        return said

    def comes_to_rest(self) -> None:
        if self.host.exists("/usr/local/bin/nqr"):
            eventually("no VM is on its way", lambda: not {v["state"] for v in self.vms()} & set(BUSY), 300)

    def vms(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = document(self.host, "vm", "ls")["items"]
        return found


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Machine() as host:
        product.clone(host)
        host.run(f"echo {NAME} >/etc/hostname; hostname {NAME}; echo 127.0.1.1 {NAME} >>/etc/hosts")
        host.run("install -d -m 0700 /root/.ssh")
        host.write(
            "/root/.ssh/id_ed25519.pub",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr me@laptop\n",
        )
        host.write(f"{CLONE}/config.yaml", "mode: production\n")
        before = host.fingerprint()
        warm.fill(host)
        yield Reader(host, before)


# --- before anything is installed


def test_each_way_to_install_can_be_planned(reader: Reader) -> None:
    """The commands exclude each other. Each shows its plan, and the host stays unchanged."""
    for line in pages.block("README.md", "Install").to_run:
        said = reader.types(f"{line} --dry-run")
        assert re.search(r"^[1-9]\d* changes, \d+ already so", said.stdout, re.MULTILINE), said.describe()
    assert not reader.host.exists("/opt/nqrust-microvm") and not reader.host.exists(CONFIG)


def test_installation_asks_at_a_terminal(reader: Reader) -> None:
    install, _ = pages.block("README.md", "NQRust-MicroVM").to_run
    said = reader.answers(install, "n", check=False)
    assert "create bridge fcbr0" in said.stdout and "Install?" in said.stdout, said.describe()
    assert not reader.host.exists("/opt/nqrust-microvm") and not reader.host.exists(CONFIG)


# --- the README's first command, and what it promises


def test_documented_install_works(reader: Reader) -> None:
    install, _ = pages.block("README.md", "NQRust-MicroVM").to_run
    said = reader.types(install)
    assert "http://" in said.stdout and "(0 changed" not in said.stdout
    again = reader.types(install)
    assert "(0 changed" in again.stdout, again.describe()


def test_documented_first_vm_works(reader: Reader) -> None:
    _, console, listed = reader.plays(pages.block("README.md", "What you get"), vm_console=b"\n")
    assert "web1 login:" in console.stdout and "web1" in listed.stdout


def test_a_vmm_is_nobody_on_its_host_and_its_guest_reaches_little(reader: Reader) -> None:
    host = reader.host
    vm = document(host, "vm", "show", "web1")
    (vmm,) = [pid for pid, name in product.vm_processes(host, vm["id"]).items() if re.search("qemu|firecracker", name)]
    status = dict(line.split(":\t", 1) for line in host.read(f"/proc/{vmm}/status").splitlines() if ":\t" in line)
    assert 1_900_000_000 <= int(status["Uid"].split()[0]) < 1_900_065_536, status["Uid"]
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    for port in (18080, 19090, 3000):
        reached = host.run(f"exec 3<>/dev/tcp/10.0.0.1/{port}", check=False)
        assert reached.ok, "the host itself reaches it there"
    product.typed(host, "web1", "root")
    ask = r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 10.0.0.1 $p 2>&1 | head -n 1"
    product.typed(
        host, "web1", f"(for p in 18080 19090 3000 5432 22 19091; do echo $p: $({ask}); done; echo all) >/tmp/reached &"
    )
    product.typed(host, "web1", "ping -c 1 -W 2 10.0.0.1 >/dev/null && echo pings >>/tmp/pings")
    said = eventually("it has tried them all", lambda: _complete(product.typed(host, "web1", "cat /tmp/reached /tmp/pings")), 60)
    for port in (18080, 19090, 3000, 5432, 22):
        assert re.search(rf"\b{port}: .*timed out", said), said
    assert re.search(r"\b19091: HTTP/1", said) and "\npings" in said.replace("\r", ""), said


def _complete(said: str) -> str:
    return said if re.search(r"^all\s*$", said, re.MULTILINE) else ""


def test_documented_recovery_from_a_killed_postgresql_works(reader: Reader) -> None:
    """docs/reference/known-issues.md: VMs keep running, the manager answers 503, and one command restores it."""
    host = reader.host
    before = product.vm_processes(host, document(host, "vm", "show", "web1")["id"])
    (line,) = [code for code in pages.inline("docs/reference/known-issues.md") if code.startswith("systemctl restart postgresql")]
    host.run(f"systemctl kill --kill-who=main --signal=KILL {line.split()[-1]}")
    eventually("the manager misses it", lambda: fetch(host, "http://127.0.0.1:18080/health")[0] == 503)
    state = ["systemctl", "is-active", line.split()[-1]]
    eventually("its unit has given up", lambda: "failed" in host.run(state, check=False).stdout)
    reader.types(line)
    eventually("it goes on", lambda: fetch(host, "http://127.0.0.1:18080/health")[0] == 200)
    shown = eventually("the VM is known", lambda: document(host, "vm", "show", "web1"))
    assert product.vm_processes(host, shown["id"]) == before


def test_snapshot_of_a_running_vm_belongs_to_root_and_is_deleted_with_it(reader: Reader) -> None:
    host = reader.host
    vm = document(host, "vm", "show", "web1")
    eventually("it runs", lambda: document(host, "vm", "show", "web1")["state"] == "running")
    assert document(host, "vm", "snapshot", "create", "web1", "live")["kind"] == "full"
    folder = f"/srv/fc/vms/{vm['id']}/snapshots"
    assert len(host.run(["find", folder, "-type", "f"]).stdout.split()) >= 3, "memory, disk and record"
    assert host.run(["find", folder, "-type", "f", "(", "!", "-perm", "600", "-o", "!", "-user", "root", ")"]).stdout == ""
    product.nqr(host, "vm", "rm", "--force", "web1")
    assert not host.exists(f"/srv/fc/vms/{vm['id']}")


def test_documented_service_users_and_ports_are_right(reader: Reader) -> None:
    """The table of docs/understand/security.md."""
    host = reader.host
    users = {}
    for unit in ("nqrust-manager", "nqrust-ui", "nqrust-agent"):
        pid = host.run(["systemctl", "show", unit, "--property=MainPID", "--value"]).stdout.strip()
        users[unit] = host.run(["stat", "-c", "%U", f"/proc/{pid}"]).stdout.strip()
    assert users == {"nqrust-manager": "nqrust", "nqrust-ui": "nqrust-ui", "nqrust-agent": "root"}
    for user in ("nqrust", "nqrust-ui"):
        assert host.run(["getent", "passwd", user]).stdout.strip().endswith(("/nologin", "/false"))
    listening = host.run("ss -Hltn").stdout
    for port in (18080, 19090, 3000):
        assert re.search(rf"(0\.0\.0\.0|\*):{port}\b", listening), listening


def test_documented_monitoring_commands_work(reader: Reader) -> None:
    block = pages.block("docs/operate/monitoring.md", "Check the installation")
    follow = next(line for line in block.to_run if line.endswith(" -f"))
    for line in block.to_run:
        if line == follow:  # until Ctrl-C
            said = reader.types(f"timeout --signal=INT 8 {line}", check=False)
            assert said.code in (0, 124, 130) and "request" in said.stdout, said.describe()
        else:
            reader.types(line)
    (bundle,) = [name for name in reader.host.listdir(CLONE) if name.startswith("nqrust-support-")]
    with tarfile.open(fileobj=io.BytesIO(reader.host.read_bytes(f"{CLONE}/{bundle}"))) as packed:
        text = b"".join(packed.extractfile(member).read() for member in packed if member.isfile())  # type: ignore[union-attr]
    reader.types(f"rm {bundle}")
    assert len(text) > 1000
    for name in ("admin-password", "cli-token", "join-token"):
        assert reader.host.read(f"{CONFIG}/{name}").strip().encode() not in text, name
    reader.plays(pages.block("docs/operate/monitoring.md", "Events and audit"))
    reader.types("rm audit.jsonl")


def test_doctor_finds_what_has_drifted(reader: Reader) -> None:
    host = reader.host
    host.run(f"chmod 0644 {CONFIG}/manager.env; systemctl stop nqrust-ui")
    said = product.nqr(host, "doctor", check=False)
    assert said.code == 4 and f"{CONFIG}/manager.env" in said.stdout and "nqrust-ui" in said.stdout, said.describe()
    assert "nqr install" in said.stdout, "the cure"
    reader.types(pages.block("README.md", "NQRust-MicroVM").to_run[0])
    again = product.nqr(host, "doctor", check=False)
    assert again.code == 0 and "manager.env" not in again.stdout, again.describe()


def test_documented_configuration_works(reader: Reader) -> None:
    """The commands that docs/reference/settings.md names."""
    mark = reader.host.mark()
    shown = reader.types("nqr config show").stdout
    assert re.search(r"network\.bridge_name\s+fcbr0\s+\S", shown), shown
    assert reader.types("nqr config validate --config config.yaml").code == 0
    wrong = reader.types("echo 'mdoe: production' >/tmp/wrong.yaml; nqr config validate --config /tmp/wrong.yaml", check=False)
    assert wrong.code == 2 and "NQR-CFG-005" in wrong.stderr and "mode" in wrong.stderr, wrong.describe()
    assert '"bridge_name"' in reader.types("nqr config schema").stdout
    assert product.rewritten(reader.host, mark) == []


def test_a_rehearsal_is_refused_on_an_installed_host(reader: Reader) -> None:
    mark = reader.host.mark()
    refused = reader.types("./scripts/install/install.sh --rehearse", check=False)
    assert refused.code == 3 and "NQR-RHS-001" in refused.stderr, refused.describe()
    assert product.rewritten(reader.host, mark) == []


def copy_of_tiny(host: Machine, name: str) -> None:
    host.run(["cp", "-a", "/srv/images/tiny", f"/srv/images/{name}"])
    manifest = json.loads(host.read(f"/srv/images/{name}/image.json"))
    host.write(f"/srv/images/{name}/image.json", json.dumps({**manifest, "name": name}))


def test_documented_dry_runs_work(reader: Reader) -> None:
    mark = reader.host.mark()
    said = reader.plays(pages.block("docs/start/rehearse.md", "Dry runs"))
    assert all("Nothing" in one.stdout or "change" in one.stdout or "to undo" in one.stdout for one in said)
    assert product.rewritten(reader.host, mark) == []


def test_documented_setting_changes_work(reader: Reader) -> None:
    planned, off, _, minimal = reader.plays(pages.block("docs/operate/upgrade.md", "Change the settings"))
    assert "- remove unit nqrust-ui" in planned.stdout and "(0 changed" not in off.stdout, planned.describe()
    assert minimal.code == 0 and fetch(reader.host, "http://127.0.0.1:8080/")[0] == 0, "mode minimal has no web UI"
    reader.types("nqr install --mode production --with-ui --ui-bind 0.0.0.0:3000")
    assert fetch(reader.host, "http://127.0.0.1:3000/")[0] == 200


def test_documented_vm_image_and_host_commands_work(reader: Reader) -> None:
    host = reader.host
    for name in ("debian", "appliance"):  # tiny, by the names that are in the examples
        copy_of_tiny(host, name)
    host.run("nqr image scan")
    copy_of_tiny(host, "mine")
    token = host.read(f"{CONFIG}/cli-token").strip()
    user = {"username": "ann", "password": PASSWORDS[0], "role": "operator"}
    assert fetch(host, "http://127.0.0.1:18080/v1/users", token=token, body=user)[0] == 201
    typed = f"{PASSWORDS[0]}\n{PASSWORDS[1]}\n".encode()
    reader.plays(pages.block("docs/start/first-vm.md", "Create your first VM"), vm_console=b"\n")
    reader.plays(pages.block("docs/operate/networks.md", "Forward ports"))
    reader.plays(pages.block("docs/operate/networks.md", "Network configuration in the guest"))
    reader.plays(pages.block("docs/operate/volumes.md", "Create a VM with volumes"))
    reader.plays(pages.block("docs/operate/snapshots.md", "Snapshots"))
    host.run(["nqr", "vm", "stop", "web1"])
    reader.plays(pages.block("docs/operate/volumes.md", "Keep, attach and detach"))
    reader.plays(pages.block("docs/operate/networks.md", "Limit traffic"))
    host.run(["nqr", "vm", "start", "web1"])
    reader.plays(pages.block("docs/operate/vms.md", "Create and delete"))
    reader.plays(pages.block("docs/operate/vms.md", "Templates"))
    reader.plays(pages.block("docs/operate/images.md", "Images"))
    reader.plays(pages.block("docs/operate/hosts.md", "Hosts"))
    reader.plays(pages.block("docs/operate/users.md", "Passwords"), user_password=typed)
    reader.plays(pages.block("docs/operate/users.md", "API tokens"))
    reader.types("rm token")
    assert {vm["state"] for vm in reader.vms()} == {"stopped"}, "drained"
    assert fetch(host, "http://127.0.0.1:18080/v1/auth/login", body={"username": "ann", "password": PASSWORDS[1]})[0] == 200
    proven = host.run(["nqr", "verify"], timeout=300)
    assert "past the manager, because this host is cordoned" in proven.stdout, proven.describe()
    host.run(["nqr", "host", "uncordon", NAME])
    eventually("they run again", lambda: {vm["state"] for vm in reader.vms()} == {"running"}, 300)


# --- the way out


def test_documented_uninstall_and_reinstall_work(reader: Reader) -> None:
    install, uninstall = pages.block("README.md", "NQRust-MicroVM").to_run
    reader.types(uninstall)
    assert not reader.host.exists("/opt/nqrust-microvm") and reader.host.exists("/srv/images/mine")
    assert reader.host.listdir("/srv/fc/vms"), "disks stay"
    reader.types(install)
    assert {str(vm["name"]) for vm in reader.vms()} >= {"web2", "web3", "db2"}, "the database stayed"


def test_removal_asks_at_a_terminal(reader: Reader) -> None:
    (line,) = pages.block("README.md", "Remove").to_run
    mark = reader.host.mark()
    said = reader.answers(line, "n", check=False)
    assert "Remove NQRust-MicroVM from this host?" in said.stdout, said.describe()
    assert product.rewritten(reader.host, mark) == [] and fetch(reader.host, "http://127.0.0.1:18080/health")[0] == 200
    refused = reader.types(line, check=False)
    assert refused.code == 2 and "NQR-USE-009" in refused.stderr, refused.describe()


def test_documented_purge_leaves_the_host_unchanged(reader: Reader) -> None:
    fingerprint, uninstall, verify = pages.block("docs/start/uninstall.md", "Check that the host is clean").to_run
    reader.types(fingerprint)
    said = reader.answers(uninstall, "y")
    assert "This host is back to its state before the install" in said.stdout, said.describe()
    assert reader.types(verify).code == 0
    reader.types("rm before.json.gz mine.json.gz")
    found = "\n".join(reader.before.diff(reader.host.fingerprint()))
    assert found == "", found

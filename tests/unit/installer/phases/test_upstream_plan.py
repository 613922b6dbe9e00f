"""The plan for a release in upstream's form: its programs get what they read, and nothing of this project's manager."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE as OWN
from tests.unit.installer.phases.test_rendered_files import SECRETS

from nqrust.host.secret import Secret
from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.phases import network, services
from nqrust.installer.phases.sudo import SUDOERS_FILE
from nqrust.installer.platform.artifact import Artifact
from nqrust.installer.platform.migrate import Migrate
from nqrust.installer.platform.node import Node, NodeProgram
from nqrust.installer.platform.sudoers import Sudoers
from nqrust.installer.platform.unpacked import Unpacked
from nqrust.installer.platform.wait import Healthy
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.release import upstream
from nqrust.installer.release.build import render
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor.spec import Hardening
from nqrust.installer.supervisor.systemd import SYSTEMD
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.mode import Mode
from nqrust.installer.verbs.packages.step import Packages
from nqrust.installer.verbs.postgres.database import Database
from nqrust.installer.verbs.postgres.role import Role

NAMES = (*upstream.ASSETS.values(), "alpine.ext4", "vmlinux-6.1.bin", "../../etc/x.ext4")
RELEASE = upstream.describe(
    "https://x/v1",
    tag="v0.4.2",
    checksums="".join(f"{'ab' * 32}  {name}\n" for name in NAMES),
    manifest=None,
    sizes=dict.fromkeys((*NAMES, "x.ext4"), 9),
)
OURS = {"bootstrap.json", "admin-password", "cli-token", "join-token", "database-password", "ca.crt", "ca.key"}


PACKAGED = Node("/usr/bin/node", packaged=True)


def context(node: Node = PACKAGED, **settings: Any) -> Context:
    return Context(
        settings=Settings.model_validate(settings),
        facts=fit(),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/0.4.2"),
        own=ReleaseFiles(OWN, "/var/cache/nqrust-microvm/releases/own"),
        node=node,
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
    )


def steps(made: Context) -> list[Any]:
    return [step for phase in planner.plan(made).phases for step in phase.steps]


def files(made: Context) -> dict[str, str]:
    """Path -> content of each file of the plan."""
    return {
        step.path: step.content.reveal() if isinstance(step.content, Secret) else step.content
        for step in steps(made)
        if isinstance(step, File)
    }


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


def test_manager_reads_its_variables_and_the_password_in_its_url() -> None:
    found = variables(files(context())["/etc/nqrust-microvm/manager.env"])
    url = found.pop("DATABASE_URL")
    assert url.startswith("postgresql://nexus:") and SECRETS.db_password.reveal() in url
    assert found == {
        "MANAGER_BIND": "0.0.0.0:18080",
        "MANAGER_IMAGE_ROOT": "/srv/images",
        "MANAGER_STORAGE_ROOT": "/srv/fc/vms",
        "MANAGER_ALLOW_IMAGE_PATHS": "true",
        "MANAGER_RECONCILER_DISABLED": "false",
        "MANAGER_BRIDGE": "fcbr0",
    }


def test_manager_believes_only_a_remote_database_of_the_authority() -> None:
    made = replace(context(database={"type": "remote", "host": "db1", "ca": "/root/c.pem"}), database_ca=("PEM\n", "/root/c.pem"))
    found = files(made)
    url = variables(found["/etc/nqrust-microvm/manager.env"])["DATABASE_URL"].strip("'")
    assert url.endswith("@db1:5432/nexus?sslmode=verify-full&sslrootcert=/etc/nqrust-microvm/database-ca.crt")
    assert found["/etc/nqrust-microvm/database-ca.crt"] == "PEM\n"


@pytest.mark.parametrize(
    ("settings", "address", "base"),
    [
        ({}, "http://127.0.0.1:19090", "http://127.0.0.1:18080"),
        ({"mode": "agent", "agent": {"manager_base": "http://m:18080"}}, "http://192.0.2.10:19090", "http://m:18080"),
        ({"agent": {"advertise_address": "192.0.2.7", "bind": "0.0.0.0:9"}}, "http://192.0.2.7:9", "http://127.0.0.1:18080"),
    ],
)
def test_agent_tells_an_address_that_the_manager_reaches(settings: dict[str, Any], address: str, base: str) -> None:
    assert variables(files(context(**settings))["/etc/nqrust-microvm/agent.env"]) == {
        "AGENT_BIND": settings.get("agent", {}).get("bind", "0.0.0.0:19090"),
        "AGENT_ADVERTISE_ADDR": address,
        "AGENT_NAME": "kvm1",
        "MANAGER_BASE": base,
        "FC_RUN_DIR": "/srv/fc",
        "FC_BRIDGE": "fcbr0",
    }


def test_web_ui_is_unpacked_and_run_by_node() -> None:
    made = context()
    target = "/opt/nqrust-microvm/releases/0.4.2/ui"
    (unpacked,) = [step for step in steps(made) if isinstance(step, Unpacked)]
    assert (unpacked.name, unpacked.path, unpacked.entry) == ("nqrust-ui.tar.gz", target, "server.js")
    (ui,) = [spec for spec in services.our_services(made) if spec.name == services.UI]
    assert ui.argv == ("/usr/bin/node", "server.js") and ui.working_directory == target and ui.user == "nqrust-ui"
    unit = SYSTEMD.render(ui)
    assert "MemoryDenyWriteExecute" not in unit and "NoNewPrivileges=yes" in unit, "V8 writes its machine code"
    assert variables(files(made)["/etc/nqrust-microvm/ui.env"])["NEXT_PUBLIC_API_BASE_URL"] == "http://127.0.0.1:18080/v1"


@pytest.mark.parametrize(
    ("node", "package", "program"),
    [
        (Node("/usr/bin/node", packaged=True), True, False),
        (Node("/usr/local/bin/node"), False, False),
        (Node("/opt/nqrust-microvm/bin/node", archive="/root/n.tgz"), False, True),
        (Node("/opt/nqrust-microvm/bin/node"), False, True),
    ],
)
def test_node_comes_from_one_place(node: Node, package: bool, program: bool) -> None:
    planned = steps(context(node))
    names = {name for step in planned if isinstance(step, Packages) for name in step.names}
    assert ("nodejs" in names) is package and "npm" not in names and "qemu-system-x86" not in names
    assert any(isinstance(step, NodeProgram) for step in planned) is program


def test_no_document_of_our_manager_is_written() -> None:
    found = {path.rpartition("/")[2] for path in files(context())}
    assert found & OURS == set() and {"manager.env", "agent.env", "ui.env"} <= found


def test_images_and_kernels_become_files_that_stay_with_the_data() -> None:
    found = {step.path: step for step in steps(context()) if isinstance(step, Artifact)}
    assert {"/srv/images/alpine.ext4", "/srv/images/vmlinux-6.1.bin"} <= found.keys()
    assert found["/srv/images/alpine.ext4"].mode == 0o644 and found["/srv/images/alpine.ext4"].retain.value == "data"
    assert all(path.startswith(("/srv/images/", "/opt/nqrust-microvm/releases/0.4.2/bin/")) for path in found)


def test_only_a_release_with_roles_of_its_own_leaves_the_database_open() -> None:
    made = context()
    own = replace(made, files=replace(made.files, release=made.release.model_copy(update={"database_role_attributes": ()})))
    assert [[step.closed for step in steps(one) if isinstance(step, Database)] for one in (made, own)] == [[False], [True]]


def test_database_gets_what_its_migrations_need_and_is_copied_first() -> None:
    planned = steps(context())
    (role,) = [step for step in planned if isinstance(step, Role)]
    (database,) = [step for step in planned if isinstance(step, Database)]
    assert "CREATEROLE" in role.attributes and database.extensions == ("pgcrypto",) and database.owner == role.name
    (copied,) = [step for step in planned if isinstance(step, Migrate)]
    assert copied.argv == (), "the manager migrates at its start"


def test_health_is_asked_at_its_own_paths() -> None:
    assert [step.url.partition("127.0.0.1")[2] for step in steps(context()) if isinstance(step, Healthy)] == [
        ":18080/health",
        ":19090/agent/v1/health",
        ":3000/",
    ]


def test_guests_get_addresses_and_reach_the_manager_that_they_report_to() -> None:
    made = context()
    assert "dhcp-range=10.0.0.10,10.0.0.250,255.255.255.0,1h" in network.dhcp_server(made)
    assert "hostsdir" not in network.dhcp_server(made) and network.guest_ports(made) == (18080,)
    assert network.guest_ports(context(mode="agent")) == ()


def test_manager_may_store_disks_and_become_root() -> None:
    made = context()
    assert Mode("/srv/fc/vms", 0o1775, "root", "nqrust") in steps(made)
    (manager,) = [spec for spec in services.our_services(made) if spec.name == services.MANAGER]
    assert manager.hardening is Hardening.sudo and "/srv/fc/vms" in manager.read_write
    agent_only = context(mode="agent")
    assert not [step for step in steps(agent_only) if isinstance(step, Sudoers)], "the agent is root"


def rules() -> dict[str, str]:
    (step,) = [step for step in steps(context()) if isinstance(step, Sudoers)]
    assert step.path == SUDOERS_FILE
    found = re.findall(r"^nqrust ALL=\(root\) NOPASSWD: /usr/bin/([a-z]+) (\^.*\$)$", step.content, re.MULTILINE)
    assert len(found) == step.content.count("NOPASSWD"), "each line has an absolute path and an expression"
    return dict(found)


ALLOWED = (
    "mount -o loop /srv/fc/vms/1/rootfs.ext4 /tmp/vm-3f6f2b8e-0000-rootfs",
    "umount /tmp/vm-3f6f2b8e-0000-rootfs",
    "cp /opt/nqrust-microvm/bin/guest-agent /tmp/vm-1-rootfs/usr/local/bin/guest-agent",
    "chmod +x /tmp/vm-1-rootfs/usr/local/bin/guest-agent",
    "chmod 0600 /tmp/vm-1-rootfs/root/.ssh/authorized_keys",
    "chown root:root /srv/fc/vms/1/a",
    "cat /tmp/vm-1-rootfs/etc/shadow",
    "tee /tmp/vm-1-rootfs/etc/shadow",
    "dd if=/srv/images/a.ext4 of=/srv/fc/vms/1/rootfs.ext4 bs=4M",
    "mkdir -p /tmp/vm-1-rootfs/usr/local/bin",
    "ln -sf /etc/systemd/system/guest-agent.service /tmp/vm-1-rootfs/etc/systemd/system/multi-user.target.wants/guest-agent.service",
    "test -d /tmp/vm-1-rootfs/etc/systemd",
    "mv /tmp/shadow.1 /tmp/vm-1-rootfs/etc/shadow",
)  # fmt: skip
REFUSED = (
    "mount -o bind /etc /srv/fc/vms/1",
    "mount -o loop,suid=/ /srv/fc/vms/1/a /srv/fc/vms/1/b",
    "mount -o loop /srv/fc/vms/1/a /etc",
    "mount -o loop /dev/sda /tmp/vm-1",
    "umount /srv",
    "umount -a",
    "cp /etc/shadow /srv/fc/vms/1/x",
    "cp /srv/fc/vms/1/x /etc/sudoers.d/x",
    "cp /srv/fc/vms/1/x /srv/fc/vms/../../../etc/x",
    "cp /srv/fc/vms/1/x /srv/fc/vms/1/y /etc/x",
    "cp -t /etc /srv/fc/vms/1/x",
    "cp --backup /srv/fc/vms/1/x /srv/fc/vms/1/y",
    "mv /srv/fc/vms/1/x /usr/bin/x",
    "chmod 4755 /srv/fc/vms/1/x",
    "chmod u+s /srv/fc/vms/1/x",
    "chown root /etc/passwd",
    "cat /etc/shadow",
    "cat /srv/fc/vms/1/etc/shadow /etc/shadow",
    "cat /srv/fc/vms/../../../etc/shadow",
    "tee /etc/x",
    "tee /srv/fc/vms/1/x /etc/x",
    "dd if=/srv/fc/vms/1/x of=/dev/sda",
    "dd of=/srv/fc/vms/1/x if=/dev/sda",
    "ln -sf /x /etc/x",
    "sh -c id",
)


@pytest.mark.parametrize("line", ALLOWED)
def test_manager_runs_its_commands(line: str) -> None:
    program, _, arguments = line.partition(" ")
    assert re.search(rules()[program], arguments)


@pytest.mark.parametrize("line", REFUSED)
def test_manager_runs_nothing_beyond_its_bounds(line: str) -> None:
    program, _, arguments = line.partition(" ")
    assert not re.search(rules().get(program, "(?!)"), arguments)


def test_nqr_itself_comes_from_its_own_release() -> None:
    made = context()
    made_of = {step.kind: step for step in steps(made)}
    assert made_of["keep-release"].source == "/var/cache/nqrust-microvm/releases/own"
    assert made_of["wheelhouse"].release_dir == "/var/cache/nqrust-microvm/releases/own"
    assert made_of["python-environment"].name == "nqr" and made_of["python-environment"].version == OWN.version


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"vmm": "qemu"}, "--vmm"),
        ({"components": {"container_runtime": True}}, "--with-container-runtime"),
        ({"manager": {"disk_overcommit": 2}}, "--manager-disk-overcommit"),
        ({"manager": {"events_days": 1}}, "--manager-events-days"),
        ({"tls": {"mode": "off"}}, "--tls"),
    ],
)
def test_an_option_that_its_programs_do_not_know_is_refused(settings: dict[str, Any], flag: str) -> None:
    found = [one for one in run(Settings.model_validate(settings), fit(), FakeHost.debian12(), Situation(form="upstream"),
                                ("NQR-REL-074",)) if one.code == "NQR-REL-074"]  # fmt: skip
    assert [one.severity.value for one in found] == ["error"] and flag in found[0].what
    assert not [
        one for one in run(Settings.model_validate(settings), fit(), FakeHost.debian12(), Situation()) if "REL-07" in one.code
    ]


@pytest.mark.parametrize(
    ("version_id", "says", "refused"),
    [
        ("12", "", False),
        ("11", "", True),
        ("11", "Sudo version 1.9.10\n", False),
        ("12", "Sudo version 1.9.9p1\n", True),
        ("99", "", False),
    ],
)
def test_a_sudo_that_cannot_bound_arguments_is_refused(version_id: str, says: str, refused: bool) -> None:
    host, facts = FakeHost.debian12(), fit()
    if says:
        host.on("sudo", "-V", answer=says)
    else:
        host.uninstall("sudo")
    facts = fit(os=type(facts.os)("debian", version_id))
    found = {
        one.code
        for one in run(Settings(), facts, host, Situation(form="upstream"), ("NQR-SUD-106",))
        if one.severity.value == "error"
    }
    assert ("NQR-SUD-106" in found) is refused
    assert "NQR-SUD-106" not in {one.code for one in run(Settings(mode="agent"), facts, host, Situation(form="upstream"))}


def test_agent_asks_its_manager_without_a_token() -> None:
    host = FakeHost.debian12()
    settings = Settings.model_validate({"mode": "agent", "agent": {"manager_base": "http://m:18080"}})
    found = {one.code: one for one in run(settings, fit(), host, Situation(form="upstream"))}
    assert "NQR-PRE-024" in found and "http://m:18080" in found["NQR-PRE-024"].what
    host.pages["http://m:18080/health"] = (200, b"{}")
    assert {one.code for one in run(settings, fit(), host, Situation(form="upstream"))} == {"NQR-REL-075"}


@pytest.mark.parametrize(
    ("here", "asked", "refused"), [("bundled", "upstream", True), ("upstream", "bundled", True), ("upstream", "upstream", False)]
)
def test_another_form_than_the_installed_one_is_refused(here: str, asked: str, refused: bool) -> None:
    host = FakeHost.debian12()
    host.put_directory("/opt/nqrust-microvm/releases/0.4.2")
    descriptor = RELEASE.model_copy(update={"form": here})
    host.put("/opt/nqrust-microvm/releases/0.4.2/release.json", render(descriptor).decode())
    host.symlink("releases/0.4.2", "/opt/nqrust-microvm/current")
    situation = Situation(form=asked, installed=Settings())
    found = {one.code: one for one in run(Settings(), fit(), host, situation, ("NQR-REL-076",))}
    assert ("NQR-REL-076" in found) is refused
    assert not refused or found["NQR-REL-076"].severity.value == "error"

"""SELinux rules and labels: added, kept, removed."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS
from tests.unit.installer.verbs.lifecycle import applied, reverted, round_trip

from nqrust.host.port import Command
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.step import Conflict, Needed
from nqrust.installer.engine.verb import Kept
from nqrust.installer.phases import services
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.selinux.context import FileContext
from nqrust.installer.verbs.selinux.labels import Labels

LEASES = "/var/lib/nqrust-microvm/dhcp(/.*)?"
RULE = FileContext(LEASES, "dnsmasq_lease_t")


@pytest.fixture
def host() -> FakeHost:
    """Answer like policycoreutils; `memory` has the rules."""
    host = FakeHost.debian12()
    host.memory["rules"] = {"/srv/www(/.*)?": "httpd_sys_content_t"}

    def listed(host: FakeHost, cmd: Command) -> str:
        return "".join(f"{p:<50} all files          system_u:object_r:{t}:s0 \n" for p, t in host.memory["rules"].items())

    host.on("semanage", "fcontext", "--list", prefix=True, answer=listed)
    host.on("semanage", "fcontext", "--add", "--type", prefix=True, changes=True,
            answer=lambda h, c: h.memory["rules"].update({c.argv[5]: c.argv[4]}))  # fmt: skip
    host.on(
        "semanage",
        "fcontext",
        "--delete",
        prefix=True,
        changes=True,
        answer=lambda h, c: h.memory["rules"].pop(c.argv[3]) and None,
    )
    return host


def test_rule_is_added_and_removed(host: FakeHost) -> None:
    round_trip(host, RULE)
    assert host.memory["rules"] == {"/srv/www(/.*)?": "httpd_sys_content_t"}


def test_another_type_of_the_administrator_is_a_conflict(host: FakeHost) -> None:
    host.memory["rules"][LEASES] = "var_lib_t"
    found = RULE.inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-SVC-120" and "var_lib_t" in found.why


def test_rule_stays_without_semanage_and_says_so(host: FakeHost) -> None:
    _, records = applied(host, RULE)
    host.uninstall("semanage")
    assert isinstance(RULE.inspect(host), Needed), "a plan can be made before the package is there"
    (outcome,) = reverted(host, records)
    assert isinstance(outcome, Kept) and "semanage" in outcome.why


def test_labels_are_set_where_they_differ(host: FakeHost) -> None:
    host.put("/opt/x/bin/tool", "")
    host.memory["wrong"] = ["Would relabel /opt/x/bin/tool from usr_t to bin_t"]
    host.on("restorecon", "-R", "-n", "-v", prefix=True, answer=lambda h, c: "".join(f"{line}\n" for line in h.memory["wrong"]))
    host.on("restorecon", "-R", "/opt/x", changes=True, answer=lambda h, c: h.memory["wrong"].clear())
    prepared, _ = applied(host, Labels(("/opt/x", "/opt/missing")))
    assert prepared.undo == ()


@pytest.mark.parametrize(("selinux", "install_dir", "expected"), [
    ("", "/opt/nqrust-microvm", []),
    ("enforcing", "/opt/nqrust-microvm", [LEASES]),
    ("permissive", "/srv/nq", ["/srv/nq/(.*/)?bin(/.*)?", "/srv/nq/(.*/)?libexec(/.*)?", LEASES]),
])  # fmt: skip
def test_files_are_labelled_before_the_services_start(selinux: str, install_dir: str, expected: list[str]) -> None:
    context = Context(
        Settings.model_validate({"paths": {"install_dir": install_dir}}), fit(selinux=selinux), SECRETS, ReleaseFiles(RELEASE, "/x"),
        Interpreter("/usr/bin/python3", "3.11.2", "/usr/bin/python3"),
    )  # fmt: skip
    steps = services.plan(context).steps
    assert [step.pattern for step in steps if isinstance(step, FileContext)] == expected
    kinds = [step.kind for step in steps]
    assert ("selinux-labels" in kinds) == bool(selinux)
    assert not selinux or kinds.index("selinux-labels") < kinds.index("service")

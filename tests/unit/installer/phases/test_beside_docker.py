"""Docker drops forwarded packets by default only if it is the one that turns forwarding on."""

from __future__ import annotations

import pytest
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.phases import network, services
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings


@pytest.mark.parametrize(("package", "docker"), [("docker.io", True), ("docker-ce", True), ("podman", False)])
def test_docker_is_the_first_to_turn_forwarding_on_at_boot(package: str, docker: bool) -> None:
    context = Context(
        settings=Settings(),
        facts=fit(packages=frozenset({package})),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/x"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
    )
    ids = {step.id for step in network.plan(context).steps}
    assert (f"file:{network.SYSCTL_FILE}" in ids) is not docker
    assert f"sysctl:{network.FORWARDING}" in ids, "VMs need forwarding, whoever turns it on"
    unit = next(unit for unit in services.our_services(context) if unit.name == services.NETWORK)
    assert ("docker.service" in unit.after) is docker

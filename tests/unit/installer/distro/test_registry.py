"""The distribution that nqr detects, one row per release."""

from __future__ import annotations

import pytest

from nqrust.host.facts.model import Os
from nqrust.installer.distro import registry
from nqrust.installer.distro.model import OPTIONAL_ROLES, ROLES

SUPPORTED = [
    (Os("debian", "11"), "debian"),
    (Os("debian", "12"), "debian"),
    (Os("debian", "13"), "debian"),
    (Os("debian", ""), "debian"),
    (Os("ubuntu", "22.04", ("debian",)), "ubuntu"),
    (Os("ubuntu", "24.04", ("debian",)), "ubuntu"),
    (Os("linuxmint", "21.3", ("ubuntu", "debian")), "ubuntu"),
    (Os("pop", "22.04", ("ubuntu", "debian")), "ubuntu"),
    (Os("raspbian", "12", ("debian",)), "debian"),
    (Os("kali", "2025.1", ("debian",)), "debian"),
    (Os("rhel", "8.10", ("fedora",)), "rhel"),
    (Os("rhel", "9.4", ("fedora",)), "rhel"),
    (Os("rocky", "8.9", ("rhel", "centos", "fedora")), "rhel"),
    (Os("almalinux", "9.3", ("rhel", "centos", "fedora")), "rhel"),
    (Os("centos", "9", ("rhel", "fedora")), "rhel"),
    (Os("ol", "8.9", ("fedora",)), "rhel"),
]
REFUSED = [
    (Os("debian", "10"), "supported from 11"),
    (Os("ubuntu", "20.04", ("debian",)), "supported from 22.04"),
    (Os("rhel", "7.9", ("fedora",)), "supported from 8"),
    (Os("centos", "7", ("rhel", "fedora")), "supported from 8"),
    (Os("alpine", "3.20"), "supported are Ubuntu"),
    (Os("fedora", "40"), "supported are Ubuntu"),
    (Os("", ""), "an unknown system"),
]


@pytest.mark.parametrize(("os", "distro"), SUPPORTED, ids=lambda value: getattr(value, "id", value))
def test_supported_distribution_is_detected(os: Os, distro: str) -> None:
    found = registry.detect(os)
    assert found is not None and found.id == distro and registry.refusal(os) == ""


@pytest.mark.parametrize(("os", "why"), REFUSED, ids=lambda value: getattr(value, "id", value))
def test_unsupported_distribution_is_refused_with_a_reason(os: Os, why: str) -> None:
    assert registry.detect(os) is None and why in registry.refusal(os)


def test_the_cure_names_every_distribution_that_we_know() -> None:
    cure = registry.advice()
    assert all(f"{distro.title} {distro.min_version}" in cure for distro in registry.DISTROS)


@pytest.mark.parametrize("distro", registry.DISTROS, ids=lambda distro: distro.id)
def test_every_role_has_packages(distro: registry.Distro) -> None:
    assert set(distro.packages) - set(OPTIONAL_ROLES) == set(ROLES) and all(distro.packages.values())
    assert distro.names(["qemu", "qemu"]) == tuple(sorted(distro.packages["qemu"]))
    with pytest.raises(KeyError):
        distro.names(["no such role"])

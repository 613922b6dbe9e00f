"""The README's commands on servers of other kinds: other releases of Debian, control groups of version 2 alone, many packages."""

from __future__ import annotations

import pytest

from tests.hosts import killing, product
from tests.hosts.machine import Fingerprint, Machine
from tests.hosts.machine.base import PACKAGES
from tests.hosts.product import document, fetch, nqr

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

INSTALL = ("--non-interactive",)
SCRIPT = "/root/undo.sh"


SERVER = (
    "linux-image-cloud-amd64", "initramfs-tools", "openssh-server", "cron", "logrotate", "rsyslog", "unattended-upgrades", "needrestart",
    "apt-listchanges", "locales", "man-db", "apparmor", "ufw", "polkitd", "libpam-systemd", "systemd-timesyncd", "e2fsprogs", "kmod",
    "procps", "git", "curl", "screen", "iptables", "busybox",
)  # fmt: skip
"""Of what people have on their servers, what watches the installation of packages or does work after it."""


def debian_13(systemd: bool = True) -> Machine:
    """Its administrator chose a language, which the purge of `locales` would take along. Control groups as it has them."""
    host = Machine(suite="trixie", systemd=systemd, unified=systemd)
    product.clone(host)
    host.write("/etc/locale.conf", "LANG=C.UTF-8\n")
    return host


def given_back(host: Machine, before: Fingerprint) -> str:
    said = nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600).stdout
    # update-catalog(8) keeps its last version beside the catalog, which is compared.
    different = [line for line in before.diff(host.fingerprint()) if "/var/lib/sgml-base/supercatalog.old" not in line]
    assert "\n".join(different) == ""
    return said


@pytest.mark.parametrize("systemd", [True, False], ids=["systemd", "supervisord"])
def test_debian_13_is_installed_proven_and_restored(systemd: bool) -> None:
    with debian_13(systemd) as host:
        before = host.fingerprint()
        said = product.bootstrap(host, *INSTALL).stdout
        assert "unproven" not in said and "FAILED" not in said
        vm = product.create_vm(host, "web1")
        assert "(0 changed" in product.bootstrap(host, *INSTALL).stdout
        if systemd:
            host.run("kill -9 $(systemctl show -p MainPID --value nqrust-agent)")
            product.eventually("the agent is back", lambda: fetch(host, "http://127.0.0.1:19090/agent/v1/health")[0] == 200)
            assert document(host, "vm", "show", "web1")["boot_id"] == vm["boot_id"], "in a scope of its own"
        given_back(host, before)


def test_undo_script_restores_debian_13() -> None:
    with debian_13() as host:
        before = host.fingerprint()
        product.bootstrap(host, *INSTALL)
        nqr(host, "uninstall", "--purge-data", "--drop-database", "--script", SCRIPT)
        host.run(["sh", SCRIPT], timeout=600)
        host.run(["rm", SCRIPT])
        assert "\n".join(before.diff(host.fingerprint())) == ""


def test_debian_11_has_no_python_that_is_new_enough_and_is_left_as_it_is() -> None:
    with Machine(suite="bullseye") as host:
        product.clone(host)
        before = host.fingerprint()
        nowhere = {"UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:9"}
        refused = product.bootstrap(host, *INSTALL, check=False, env=nowhere)
        assert refused.code == 3 and "NQR-DEP-901" in refused.stderr, refused.describe()
        assert not host.exists(product.CACHE)
        assert "not installed" in host.run([killing.UNINSTALL, *INSTALL]).stderr
        assert "\n".join(before.diff(host.fingerprint())) == ""


def test_uninstall_restores_a_server_with_many_packages() -> None:
    with Machine(packages=(*PACKAGES, *SERVER), unified=True) as host:
        product.clone(host)
        before = host.fingerprint()
        product.bootstrap(host, *INSTALL)
        assert "(0 changed" in product.bootstrap(host, *INSTALL).stdout
        said = given_back(host, before)
        assert "nothing differs" in said


def test_install_works_from_a_nearly_empty_environment() -> None:
    """Like a job of a provisioning tool: no home, no sbin in PATH, a missing locale, a closed standard input,
    a strict umask, a deleted working directory, and variables that point Python to other folders."""
    odd = (
        "umask 077; mkdir /root/gone; cd /root/gone; rmdir /root/gone; "
        "exec env -i PATH=/usr/local/bin:/usr/bin:/bin TMPDIR=/nonexistent LC_ALL=de_DE.UTF-8 TERM=odd COLUMNS=many "
        "PYTHONHOME=/nonexistent PYTHONPATH=/nonexistent "
    )
    with Machine() as host:
        product.clone(host)
        before = host.fingerprint()
        for said, line in (
            ("NQRust-MicroVM is installed.", f"'{killing.INSTALL}' --non-interactive"),
            ("(0 changed", f"'{killing.INSTALL}' --non-interactive"),
            ("All is well.", "nqr doctor"),
            ("running", "nqr vm create --name web1 --image tiny --start --wait"),
            ("nothing differs", f"'{killing.UNINSTALL}' --purge-data --drop-database --non-interactive"),
        ):
            done = host.run(["sh", "-c", f"{odd} {line} <&-"], timeout=900)
            assert said in done.stdout, done.describe()
        assert "\n".join(before.diff(host.fingerprint())) == ""

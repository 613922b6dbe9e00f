"""Debian 11, whose Python is too old: the bootstrap brings a newer one, and an uninstall leaves nothing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.hosts import product
from tests.hosts.machine import Machine
from tests.hosts.machine.managed_python import Archive, archive
from tests.hosts.product import document, nqr

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(4000)]  # the first run builds a Python
PORT = 8765
FILES = "/run/mirror"


@pytest.fixture(scope="module")
def python() -> Archive:
    return archive()


@contextmanager
def mirror(host: Machine, python: Archive) -> Iterator[dict[str, str]]:
    """A mirror on the host's loopback, outside of what a fingerprint looks at; the variables that name it."""
    name = python.name.replace("+", "%2B")
    host.write("/root/python.tar.gz", python.path.read_bytes())
    host.run(f"mkdir -p {FILES}/20260101 && mv /root/python.tar.gz {FILES}/20260101/{python.name}")
    host.write(f"{FILES}/downloads.json", python.metadata(f"http://127.0.0.1:{PORT}/20260101/{name}"))
    server = host.start(["python3", "-m", "http.server", str(PORT), "--bind", "127.0.0.1", "--directory", FILES])
    host.wait_for(f"ss -Hlnt sport = :{PORT} | grep -q .", timeout=30)
    try:
        yield {"UV_PYTHON_DOWNLOADS_JSON_URL": f"http://127.0.0.1:{PORT}/downloads.json"}
    finally:
        server.kill()


def test_debian_11_is_installed_with_a_python_of_a_mirror_and_restored(python: Archive) -> None:
    with Machine(suite="bullseye") as host:
        product.clone(host)
        before = host.fingerprint()
        with mirror(host, python) as env:
            said = product.bootstrap(host, "--non-interactive", env=env).stdout
            assert "unproven" not in said and "FAILED" not in said
            assert json.loads(host.read(f"{product.CACHE}/bootstrap.json"))["packages"] == []
            state = host.run("dpkg-query -W -f '${Status}' python3-venv", check=False).stdout
            assert "ok installed" not in state, "borrowed, and given back"
            home = f"/opt/nqrust-microvm/python/{python.version}"
            for service in ("manager", "agent", "ui"):
                pid = host.run(f"systemctl show -p MainPID --value nqrust-{service}").stdout.strip()
                assert host.run(f"readlink /proc/{pid}/exe").stdout.startswith(home), service
            vm = product.create_vm(host, "web1")
            for again in (product.bootstrap(host, "--non-interactive"), nqr(host, "install", "--non-interactive", timeout=600)):
                assert "(0 changed" in again.stdout, "no mirror is needed any more"
            assert nqr(host, "verify", timeout=600).code == 0
            assert document(host, "vm", "show", "web1")["boot_id"] == vm["boot_id"]
            said = nqr(host, "uninstall", "--purge-data", "--drop-database", "--non-interactive", timeout=600).stdout
            assert "nothing differs" in said
        assert "\n".join(before.diff(host.fingerprint())) == ""


def test_python_in_a_file_is_used_only_with_its_digest(python: Archive) -> None:
    with Machine(suite="bullseye") as host:
        product.clone(host)
        host.write("/root/python.tar.gz", python.path.read_bytes())
        before = host.fingerprint()
        for path, digest in (
            ("/root/python.tar.gz", "0" * 64),
            ("/root/missing.tgz", python.sha256),
            ("python.tar.gz", python.sha256),
        ):
            env = {"NQR_PYTHON_ARCHIVE": path, "NQR_PYTHON_SHA256": digest}
            refused = product.bootstrap(host, "--dry-run", check=False, env=env)
            assert refused.code == 2 and "NQR-DEP-906" in refused.stderr, refused.describe()
            assert not host.exists(product.CACHE)
        env = {"NQR_PYTHON_ARCHIVE": "/root/python.tar.gz", "NQR_PYTHON_SHA256": python.sha256.upper()}
        planned = product.bootstrap(host, "--dry-run", "--non-interactive", env=env)
        assert f"/opt/nqrust-microvm/python/{python.version}" in planned.stdout
        assert "Installing" not in planned.stderr and "Downloading" not in planned.stderr
        assert "\n".join(before.diff(host.fingerprint())) == ""

"""Where the surroundings of nqr are not what it needs: full disks, other programs in the manager's place, malformed words."""

from __future__ import annotations

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler

import pytest
from tests.unit.cli.test_vm_commands import Handler, Manager, answering

from nqrust.cli.__main__ import run

LIST = [sys.executable, "-m", "nqrust.cli", "vm", "ls"]


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    with answering(Handler, monkeypatch) as server:
        yield server


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_full_disk_for_the_output_is_a_coded_error(form: str, manager: Manager) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*LIST, "-o", form], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1 and "NQR-USE-040" in done.stderr and "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_a_full_disk_for_everything_still_ends_with_the_exit_code(manager: Manager) -> None:
    with open("/dev/full", "w") as full:
        assert subprocess.run(LIST, stdout=full, stderr=full, timeout=60).returncode == 1


class Another(BaseHTTPRequestHandler):
    """A program that is no manager."""

    status, kind, body = 200, "text/html", b"<html>Welcome</html>"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        return None


@pytest.mark.parametrize(
    ("status", "kind", "body", "told"),
    [
        (
            200,
            "text/html",
            b"<html>Welcome</html>",
            "NQR-USE-043  {url} answers, but not as a manager does (status 200, text/html).",
        ),
        (302, "", b"", "NQR-USE-043  {url} answers, but not as a manager does (status 302, no content type)."),
        (
            200,
            "application/json",
            b"[1]",
            "NQR-USE-043  {url} answers, but not as a manager does (status 200, application/json).",
        ),
        (502, "text/html", b"<html>Bad</html>", "NQR-API-199  The manager answered with status 502 (Bad Gateway)."),
        (401, "application/json", b"{}", "NQR-API-199  The manager answered with status 401 (Unauthorized)."),
    ],
)
def test_answers_of_other_programs_are_told_apart(
    status: int, kind: str, body: bytes, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = type("As", (Another,), {"status": status, "kind": kind, "body": body})
    with answering(handler, monkeypatch) as server:
        assert run(["vm", "ls"]) == 1
        assert capsys.readouterr().err.splitlines()[0] == told.format(url=f"{server.url}/v1/vms")


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://127.0.0.1:99999", "ftp://127.0.0.1", "127.0.0.1:18080"])
def test_a_malformed_address_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "ls", "--manager", url]) == 2
    assert "NQR-USE-003" in (said := capsys.readouterr().err) and url in said


@pytest.mark.parametrize("token", ["nqr_a\nb", "nqr_\u00e4", "nqr a"])
def test_a_malformed_token_is_refused_and_not_shown(
    token: str, manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NQR_TOKEN", token)
    assert run(["vm", "ls"]) == 2
    assert "NQR-USE-041" in (said := capsys.readouterr().err) and token not in said and "nqr_" not in said
    assert not manager.asked


@pytest.mark.parametrize("words", ["vm show", "vm rm --force", "image rm", "host show", "vm stop"])
def test_an_empty_name_asks_for_nothing(words: str, manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words.split(), ""]) == 1
    assert "NQR-USE-042  A name is empty." in capsys.readouterr().err and not manager.asked


@pytest.mark.parametrize("name", [".", "..", "s1/..", "../web1"])
@pytest.mark.parametrize("words", ["vm show", "vm rm --force", "vm snapshot rm web1", "volume detach --delete web1", "host rm"])
def test_a_name_that_leads_elsewhere_asks_for_nothing(
    words: str, name: str, manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    """`DELETE /v1/vms/web1/snapshots/..` deletes the VM."""
    assert run([*words.split(), name]) == 1
    assert f"NQR-USE-042  “{name}” is not a name." in capsys.readouterr().err and not manager.asked


@pytest.mark.parametrize("name", ["Bad Name", "", "a" * 64, "a\x1b[2J"])
def test_a_name_that_no_snapshot_can_have_is_refused(name: str, manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "snapshot", "create", "web1", name]) == 2
    said = capsys.readouterr().err
    assert "NQR-USE-003  A snapshot cannot be named" in said and "\x1b" not in said and not manager.asked


def test_an_unknown_vm_needs_a_name(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "adopt", ""]) == 1
    assert "NQR-USE-042" in capsys.readouterr().err and not manager.asked


def test_the_output_ends_where_its_reader_does(manager: Manager) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(LIST, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")

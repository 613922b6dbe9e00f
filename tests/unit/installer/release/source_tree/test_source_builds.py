"""What a build needs of the host, and what it refuses before it starts."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.release.source_tree.test_cargo_workspace import TREE, tree

from nqrust.cli.releases import build_release
from nqrust.host.port import Command, Completed
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.release.source_tree import rust, web, workplace
from nqrust.installer.release.source_tree.build import build
from nqrust.installer.release.source_tree.workplace import Workplace


def code_of(host: FakeHost, *, with_ui: bool = True, source: str = TREE, to: str = "/out") -> str:
    with pytest.raises(ReleaseError) as caught:
        build(host, tree=source, to=to, scratch="/var/tmp/b", with_ui=with_ui, progress=silent)
    assert not host.exists("/var/tmp/b") and not host.exists("/out.building")
    return caught.value.code


def with_rust(host: FakeHost, version: str) -> FakeHost:
    host.install("rustc")
    host.on("/usr/bin/rustc", "--print", "sysroot", answer="/usr\n")
    host.on("/usr/bin/rustc", "--version", answer=f"rustc {version} (abc 2025-01-01)\n")
    return host


def test_build_refuses_other_folders_and_existing_targets() -> None:
    assert code_of(tree(), source="/etc") == "NQR-REL-096"
    host = tree()
    host.put("/out/file", "")
    assert code_of(host) == "NQR-REL-097"
    assert code_of(tree(), to="/nowhere/out") == "NQR-REL-097"


def test_build_refuses_missing_and_old_rust() -> None:
    assert code_of(tree()) == "NQR-REL-093"
    assert code_of(with_rust(tree(), "1.63.0")) == "NQR-REL-093"


@pytest.mark.parametrize("said", ["v18.20.4", "nonsense"])
def test_build_refuses_old_node_only_for_a_web_ui(said: str) -> None:
    host = with_rust(tree(), "1.70.0")
    host.install("node")
    host.install("npm")
    host.on("/usr/bin/node", "--version", answer=f"{said}\n")
    assert code_of(host) == "NQR-REL-094"
    assert code_of(with_rust(tree(), "1.70.0")) == "NQR-REL-094", "no Node.js at all"


def test_newer_tools_are_accepted() -> None:
    assert rust.toolchain(with_rust(tree(), "1.95.0")) == "/usr"
    host = tree()
    host.install("node")
    host.install("npm")
    host.on("/usr/bin/node", "--version", answer="v22.1.0\n")
    web.require_node(host)


def ran(number: int, toolchain: str = "") -> tuple[Command, list[str]]:
    host = FakeHost.debian12()
    for program in ("setpriv", "unshare", "cargo"):
        host.install(program)
        host.on(program, prefix=True, answer="done\n")
    host.variables["SSL_CERT_FILE"] = "/etc/ssl/own.pem"
    host.put_directory("/var/tmp/b")
    place = Workplace(host, "/var/tmp/b", silent, number)
    if toolchain:
        assert place.show("toolchain", toolchain) == "/var/tmp/b/shown/toolchain"
    assert place.run("cargo", "build") == "done\n"
    return host.commands[-1], place.lines


def test_programs_of_a_build_have_a_number_of_their_own_and_no_privileges() -> None:
    command, lines = ran(61000)
    words = " ".join(command.argv)
    assert words.startswith(
        "setpriv --reuid 61000 --regid 61000 --clear-groups --no-new-privs --inh-caps -all --bounding-set -all"
    )
    assert command.argv[-2:] == ("cargo", "build") and command.cwd == "/var/tmp/b/tree"
    assert command.env["HOME"] == "/var/tmp/b/home" and command.env["CARGO_HTTP_CAINFO"] == "/etc/ssl/own.pem"
    assert lines[0] == "$ cargo build"


def test_toolchain_in_a_home_is_shown_in_the_scratch_folder() -> None:
    argv = ran(61000, "/root/.rustup/t")[0].argv
    assert argv[:3] == ("unshare", "--mount", "sh") and argv[6:10] == (
        "/root/.rustup/t",
        "/var/tmp/b/shown/toolchain",
        "--",
        "setpriv",
    )


def test_number_of_an_account_or_a_program_is_not_taken() -> None:
    host = FakeHost.debian12()
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    host.put("/proc/1/comm", "init")
    assert workplace.free_number(host, "/var/tmp") == 61000
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\nx:x:61001:61001::/:/bin/sh\n")
    assert workplace.free_number(host, "/var/tmp") == 61002
    host.put("/var/tmp/nqr-build-1/home/x", "")
    host.add_user("b", 61002)
    host.set_mode("/var/tmp/nqr-build-1/home", mode=0o700, owner="b", group="root")
    assert workplace.free_number(host, "/var/tmp") == 61004


def test_a_build_writes_no_escape_sequences_to_the_terminal_or_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Build scripts and packages of npm are code of strangers."""
    evil = "\x1b]52;c;ZXZpbA==\x07done"
    monkeypatch.setattr("nqrust.cli.releases.require_root", lambda _: None)

    def built(_: object, *, progress: Progress, **given: object) -> str:
        host = FakeHost.debian12()
        host.install("setpriv")
        host.on("setpriv", prefix=True, answer=f"{evil}\n")
        place = Workplace(host, "/var/tmp/b", progress, 61000)
        place.run("cargo", "build")
        assert place.lines[-1] == "\ufffd]52;c;ZXZpbA==\ufffddone"
        host.on("setpriv", prefix=True, answer=Completed((), 1, "", f"{evil}\n"))
        return place.run("cargo", "build")

    monkeypatch.setattr("nqrust.installer.release.source_tree.build.build", built)
    with pytest.raises(ReleaseError) as caught:
        build_release(source=TREE, to="/out")
    said = capsys.readouterr().err
    assert "done" in said and "\x1b" not in said and "\x07" not in said
    assert "\x1b" not in caught.value.what


def test_nobody_but_the_build_reads_the_copied_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    host, found = tree(), []
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    host.put("/proc/1/comm", "init")
    host.put("/var/tmp/x", "")
    for program in ("install", "tar"):
        host.install(program)
        host.on(program, prefix=True)
    monkeypatch.setattr(Workplace, "run", lambda place, *argv: found.append((argv[-1], place.number, host.stat(argv[-1]))))
    workplace.open_workplace(host, "/var/tmp/b", TREE, silent)
    ((path, number, packed),) = found
    assert packed is not None and (packed.mode, packed.uid) == (0o600, number)
    assert "-cf" in host.commands[-1].argv and path in host.commands[-1].argv and not host.exists(path)

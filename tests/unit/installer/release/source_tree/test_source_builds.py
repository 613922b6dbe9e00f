"""What a build needs of the host, and what it refuses before it starts."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.release.source_tree.test_cargo_workspace import MANIFEST, TREE, tree

from nqrust.cli.releases import build_release
from nqrust.host.port import Command, Completed
from nqrust.image.guest_agent import MUSL_TARGET
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.release import download
from nqrust.installer.release.source_tree import cargo_workspace, rust, rustup, web, workplace
from nqrust.installer.release.source_tree.build import build
from nqrust.installer.release.source_tree.wanted_rust import WantedRust
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


OLD, NEW = "1.63.0", "1.84.1"


@pytest.mark.parametrize(
    ("has", "asked", "serves"),
    [
        ("", {}, False),
        (OLD, {}, False),
        ("1.70.0", {}, True),
        (NEW, {"Cargo.toml": MANIFEST.replace('"1.4.0"', '"1.4.0"\nrust-version = "1.84"')}, True),
        (NEW, {"Cargo.toml": MANIFEST.replace('"1.4.0"', '"1.4.0"\nrust-version = "1.85"')}, False),
        (NEW, {"apps/agent/Cargo.toml": '[package]\nname = "agent"\nrust-version = "1.84.2"\n'}, False),
        (NEW, {"rust-toolchain.toml": '[toolchain]\nchannel = "1.84.1"\n'}, True),
        (NEW, {"rust-toolchain.toml": '[toolchain]\nchannel = "1.90"\n'}, False),
        (NEW, {"rust-toolchain": "1.90.0\n"}, False),
        (NEW, {"rust-toolchain.toml": "[toolchain]\nchannel = 'stable'\n"}, True),
        (NEW, {"rust-toolchain.toml": '[toolchain]\nchannel = "nightly"\n'}, False),
        ("1.99.0-nightly", {"rust-toolchain.toml": '[toolchain]\nchannel = "nightly"\n'}, True),
        ("1.99.0-nightly", {"rust-toolchain.toml": '[toolchain]\nchannel = "nightly-2026-01-02"\n'}, False),
        (NEW, {"rust-toolchain.toml": f'[toolchain]\ntargets = [\n  "{MUSL_TARGET}", # static\n]\n'}, False),
        (NEW, {".cargo/config.toml": f'[build]\ntarget = "{MUSL_TARGET}"\n'}, False),
    ],
)  # fmt: skip
def test_rust_of_the_host_serves_a_tree_that_asks_for_no_other(has: str, asked: dict[str, str], serves: bool) -> None:
    host = with_rust(tree(**asked), has) if has else tree(**asked)
    wanted = cargo_workspace.read(host, TREE).rust
    assert (rust.toolchain(host, wanted) == "/usr") is serves, wanted.label
    host.put_directory(f"/usr/lib/rustlib/{MUSL_TARGET}/lib")
    assert (rust.toolchain(host, wanted) == "/usr") is (serves or wanted.musl)


def test_a_toolchain_of_one_machine_is_refused() -> None:
    for text in (
        '[toolchain]\npath = "/home/me/rust"\n',
        "my-own\n",
        '[toolchain]\nchannel = "1.84-x86_64-unknown-linux-musl"\n',
    ):
        with pytest.raises(ReleaseError) as caught:
            cargo_workspace.read(tree(**{"rust-toolchain.toml": text}), TREE)
        assert caught.value.code == "NQR-REL-090" and "rust-toolchain.toml" in caught.value.what


class Brought(Exception):
    """The build reached rustup."""


def test_build_brings_the_rust_that_the_host_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def install(place: Workplace, wanted: WantedRust) -> str:
        asked.append(wanted.label)
        raise Brought

    monkeypatch.setattr(rustup, "install", install)
    monkeypatch.setattr(
        "nqrust.installer.release.source_tree.build.open_workplace",
        lambda host, folder, *_: Workplace(host, folder, silent, 61000),
    )
    monkeypatch.setattr(FakeHost, "kill_all_of", lambda *_: None)
    for host in (tree(), with_rust(tree(), OLD)):
        with pytest.raises(Brought):
            build(host, tree=TREE, to="/out", scratch="/var/tmp/b", with_ui=False, progress=silent)
    assert asked == ["Rust 1.70 or later"] * 2


def test_rustup_that_cannot_be_reached_is_named_with_the_wanted_version(monkeypatch: pytest.MonkeyPatch) -> None:
    host = tree(**{"rust-toolchain.toml": '[toolchain]\nchannel = "1.90"\n'})
    host.variables[rustup.INSTALLERS] = "https://mirror.example/rustup/"
    found = []

    def refuse(wanted: download.Wanted, *_: object) -> str:
        found.append(wanted)
        raise ReleaseError("NQR-REL-020", "mirror.example cannot be reached: no route.", "")

    monkeypatch.setattr(download, "fetch", refuse)
    with pytest.raises(ReleaseError) as caught:
        rustup.install(Workplace(host, "/var/tmp/b", silent, 61000), cargo_workspace.read(host, TREE).rust)
    assert caught.value.code == "NQR-REL-099"
    assert "Rust 1.90 or later" in caught.value.what and "no route" in caught.value.what
    assert rustup.INSTALLERS in caught.value.cure and rustup.TOOLCHAINS in caught.value.cure
    assert found[0].url == f"https://mirror.example/rustup/archive/{rustup.VERSION}/x86_64-unknown-linux-gnu/rustup-init"
    assert found[0].sha256 == rustup.DIGEST


@pytest.mark.parametrize("said", ["v18.20.4", "nonsense"])
def test_build_refuses_old_node_only_for_a_web_ui(said: str) -> None:
    host = with_rust(tree(), "1.70.0")
    host.install("node")
    host.install("npm")
    host.on("/usr/bin/node", "--version", answer=f"{said}\n")
    assert code_of(host) == "NQR-REL-094"
    assert code_of(with_rust(tree(), "1.70.0")) == "NQR-REL-094", "no Node.js at all"


def test_newer_tools_are_accepted() -> None:
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
    assert words.endswith(
        " -- setpriv --reuid 61000 --regid 61000 --clear-groups --no-new-privs --inh-caps -all --bounding-set -all cargo build"
    )
    assert command.cwd == "/var/tmp/b/tree" and command.env["TMPDIR"] == "/var/tmp/b/temporary"
    assert command.env["HOME"] == "/var/tmp/b/home"
    assert {command.env[name] for name in ("CARGO_HTTP_CAINFO", "SSL_CERT_FILE")} == {"/etc/ssl/own.pem"}
    assert lines[0] == "$ cargo build"


def test_toolchain_in_a_home_is_shown_in_the_scratch_folder() -> None:
    argv = ran(61000, "/root/.rustup/t")[0].argv
    assert argv[:4] == ("unshare", "--mount", "--ipc", "sh") and argv[argv.index("--") + 1 :][:4] == (
        "/root/.rustup/t",
        "/var/tmp/b/shown/toolchain",
        "--",
        "setpriv",
    )


def test_a_host_that_mounts_nothing_builds_too() -> None:
    """A container without the right to mount."""
    host = FakeHost.debian12()
    host.install("sh")
    host.on("sh", prefix=True, answer="done\n")
    assert Workplace(host, "/var/tmp/b", silent, 61000, hides=False).run("cargo") == "done\n"


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
        host.install("sh")
        host.on("sh", prefix=True, answer=f"{evil}\n")
        place = Workplace(host, "/var/tmp/b", progress, 61000, hides=False)
        place.run("cargo", "build")
        assert place.lines[-1] == "\ufffd]52;c;ZXZpbA==\ufffddone"
        host.on("sh", prefix=True, answer=Completed((), 1, "", f"{evil}\n"))
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
    for program in ("install", "tar", "unshare"):
        host.install(program)
        host.on(program, prefix=True)
    monkeypatch.setattr(Workplace, "run", lambda place, *argv: found.append((argv[-1], place.number, host.stat(argv[-1]))))
    workplace.open_workplace(host, "/var/tmp/b", TREE, silent)
    ((path, number, packed),) = found
    assert packed is not None and (packed.mode, packed.uid) == (0o600, number)
    assert "-cf" in host.commands[-1].argv and path in host.commands[-1].argv and not host.exists(path)

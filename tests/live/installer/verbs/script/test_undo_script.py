"""The undo script: valid sh for every verb, with the same effect on files as nqr."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.places import GOLDEN

from nqrust.host.errors import ProgramMissing
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.receipt import Entry, Receipt
from nqrust.installer.engine.step import Origin
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import Reverted, UndoContext
from nqrust.installer.verbs.file.undo import undo_block, undo_block_text, undo_directory, undo_file, undo_mode, undo_symlink
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.registry import VERBS, revert
from nqrust.installer.verbs.script import whole as script
from nqrust.installer.verbs.script.prelude import PRELUDE

OLD = (GOLDEN / "journal/v1.jsonl").read_bytes()


def entry(number: int, *undos: Undo) -> Entry:
    return Entry(number, "r", f"step {number}", "x", "p", f"step {number}", Origin.created, undos, 0.0)


def context() -> UndoContext:
    host = FakeHost.debian12()
    host.on("dpkg", "--print-architecture", answer="amd64\n")
    host.on("dpkg-query", prefix=True, answer="installed bash\ninstalled postgresql\ninstalled screen\n")
    return UndoContext(host, Originals(host, "/var/lib/originals"))


def sh(text: str, root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as the one who runs the tests, on a folder: the question who that is, is left out."""
    assert 'if [ "$(id -u)" -ne 0 ]' in text
    text = text.replace("PATH=/usr/local/sbin", "true || PATH=/usr/local/sbin").replace("with_systemd()", "no_systemd()")
    text = text.replace('if [ "$(id -u)" -ne 0 ]', "with_systemd() { false; }\nif false")
    return subprocess.run(
        ["sh"],
        input=text,
        capture_output=True,
        text=True,
        cwd=root,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_undo_script_of_every_verb_passes_sh() -> None:
    made = context()
    entries = Receipt.of(Journal(MemoryJournalStore(OLD), lambda: 0.0)).entries
    assert {u.verb for e in entries for u in e.undo} | {"vms"} == set(VERBS)
    made.originals.keep = lambda digest, data: None  # type: ignore[method-assign]
    kept = {
        "d" * 64: traces.pack({"paths": {"/etc/a b": ["directory"], "/etc/f": ["file", "0" * 64]}, "users": ["u"], "groups": []}),
        "a" * 64: traces.pack({"paths": ["/etc/its own", "/etc/link"], "users": [], "groups": []}),
    }
    made.originals.read = lambda digest: kept.get(digest, b"it's\n$HOME `x`\n")  # type: ignore[method-assign]
    made.host.put("/etc/its own", "an administrator's\n")  # type: ignore[attr-defined]
    made.host.symlink("its own", "/etc/link")
    made.host.put("/var/lib/dpkg/info/screen.list", "/etc/its own\n/etc/link\n")  # type: ignore[attr-defined]
    extra = entry(
        10_000,
        Undo("vms", {"prefix": "fc-"}),
        undo_symlink("/a'b", ours="/x", prior="/y z"),
    )
    text = script.render(made, [*entries, extra], retain=lambda e: False, epilogue="rm -rf -- /nonexistent\n")
    checked = subprocess.run(["shellcheck", "-s", "sh", "-"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    called = set(re.findall(r"^ *([a-z]+_[a-z_]+)(?= |$)", text.removeprefix(PRELUDE), re.MULTILINE))
    assert "restore_sysctl" in called and called <= set(re.findall(r"^ *([a-z_]+)\(\)", text, re.MULTILINE))
    assert "purge apt postgresql screen" in text and " bash" not in text.partition("purge apt")[2].partition("\n")[0]
    assert "apt-mark" not in text, "nqr changes no mark of an older package, and the administrator may have"
    assert "if ! there /etc/link; then\nput_link /etc/link '' 'its own'\nfi\n" in text
    assert "if ! there '/etc/its own'; then\nrestore_file '/etc/its own' '' " in text


def test_undo_script_omits_what_uninstall_retains() -> None:
    kept = entry(1, undo_directory("/srv/fc", tree=True, retain=Retain.data))
    text = script.render(context(), [kept], retain=lambda e: e.retain is Retain.data)
    assert "remove_tree /srv/fc" not in text and "\nstays /srv/fc\n" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="it changes owners")
def test_undo_script_restores_files_and_keeps_edits(tmp_path: Path) -> None:
    def path(name: str) -> str:
        return str(tmp_path / name)

    made = context()
    (tmp_path / "ours").write_text("new\n")
    for cut_off in ("ours", "replaced", "shared", "link"):
        (tmp_path / f".{cut_off}.nqr-new").write_text("half of ou")
    (tmp_path / "edited").write_text("edited by somebody\n")
    (tmp_path / "shared").write_text("before\n# BEGIN us\nx\n# END us\nafter\n")
    (tmp_path / "replaced").write_text("new\n")
    (tmp_path / "link").symlink_to("/new")
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/theirs").write_text("x")
    digest = "7aa7a5359173d05b63cfd682e3c38487f3cb4f7f1d60659fe59fab1505977d4c"  # of "new\n"
    old = b"old \xff\0 content\n" * 20
    sha = hashlib.sha256(old).hexdigest()
    made.originals.keep(sha, old)
    prior = {"kind": "file", "sha256": sha, "mode": 0o640, "owner": "root", "group": "root", "xattrs": {}}
    entries = [
        entry(1, undo_directory(path("full")), undo_directory(path("tree"), tree=True)),
        entry(2, undo_file(path("ours"), ours_sha256=digest), undo_file(path("edited"), ours_sha256=digest)),
        entry(3, Undo("file", {"path": path("replaced"), "ours": digest, "prior": prior})),
        entry(4, undo_block(path("shared"), "us"), undo_symlink(path("link"), ours="/new", prior="/old")),
        entry(5, undo_mode(path("full/theirs"), 0o600, "root", "root")),
    ]
    text = script.render(made, entries, retain=lambda e: False)
    done = sh(text, tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert not (tmp_path / "ours").exists() and not (tmp_path / "tree").exists()
    assert (tmp_path / "edited.nqr-kept").read_text() == "edited by somebody\n" and "edited.nqr-kept" in done.stdout
    assert (tmp_path / "replaced").read_bytes() == old
    assert (tmp_path / "replaced").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "shared").read_text() == "before\nafter\n"
    assert os.readlink(tmp_path / "link") == "/old"
    assert (tmp_path / "full/theirs").stat().st_mode & 0o7777 == 0o600
    again = sh(text, tmp_path)
    assert again.returncode == 0 and (tmp_path / "replaced").read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "edited.nqr-kept",
        "full",
        "link",
        "replaced",
        "shared",
    ]


def test_undo_script_keeps_other_bytes_of_a_shared_file_and_skips_links(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "link"
    shared.write_bytes(b"# BEGIN us\nx\n# END us\n# caf\xe9 \x85 \n\nno line end")
    shared.chmod(0o640)
    (tmp_path / "target").write_bytes(whole := shared.read_bytes())
    link.symlink_to("target")
    entries = [entry(1, undo_block(str(shared), "us"), undo_block(str(link), "us"))]
    done = sh(script.render(context(), entries, retain=lambda e: False), tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "link is no longer a file" in done.stdout
    assert shared.read_bytes() == b"# caf\xe9 \x85 \n\nno line end" and shared.stat().st_mode & 0o7777 == 0o640
    assert link.is_symlink() and (tmp_path / "target").read_bytes() == whole


def test_a_block_that_was_changed_gets_its_earlier_text_again(tmp_path: Path) -> None:
    shared, gone = tmp_path / "shared", tmp_path / "gone"
    shared.write_text("a\n# BEGIN us\nnew\n# END us\nb")
    gone.write_text("a\n")
    prior = " # BEGIN us\nit's \\n $HOME é\n# END us\n"
    entries = [entry(1, *(undo_block_text(str(path), "us", prior=prior) for path in (shared, gone)))]
    for _ in range(2):
        done = sh(script.render(context(), entries, retain=lambda e: False), tmp_path)
        assert (done.returncode, done.stderr) == (0, "") and shared.read_text() == f"a\n{prior}b"
        assert gone.read_text() == "a\n"


@pytest.mark.parametrize(("refusals", "tries"), [(0, 1), (3, 4), (1000, 150)])
def test_undo_script_waits_for_the_dpkg_lock(tmp_path: Path, refusals: int, tries: int) -> None:
    calls = tmp_path / "calls"
    dpkg = f'dpkg() {{ echo x >>{calls}; [ "$(wc -l <{calls})" -gt {refusals} ] || return 2; }}\nsleep() {{ echo "$1" >>{calls}.slept; }}\n'
    text = PRELUDE.partition("cd / || exit 1\n")[2] + dpkg + "configure_debs\n"
    subprocess.run(["sh", "-c", text], check=False, timeout=60)
    slept = tmp_path / "calls.slept"
    assert len(calls.read_text().split()) == tries
    assert (slept.read_text().split() if slept.exists() else []) == ["2"] * (tries - 1)


def tools(folder: Path, **scripts: str) -> str:
    """Programs of these names; each writes its arguments into `calls`. Gives the PATH that finds them first."""
    folder.mkdir()
    for name, body in scripts.items():
        tool = folder / name.replace("_", "-")
        tool.write_text(f'#!/bin/sh\necho "{tool.name} $*" >>"{folder}/calls"\n{body}\n')
        tool.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


DPKG_QUERY = r"""
case "$*" in
    *Status-Status*) echo installed ;;
    *Status-Eflag*) echo ok ;;
    *) printf 'theirs\t, server (>= 2) | other, libc6:any\t\nbackend\t, lib-a (= 1)\tserver (= 2.1), other-name\nlib-a\tlib-b, \t\nlib-b\t, \t\nalone\t, lib-b\t\n' ;;
esac"""


def test_undo_script_keeps_needed_packages_with_their_dependencies(tmp_path: Path) -> None:
    simulated = 'case "$*" in "-s purge"*backend*|"-s purge"*lib-a*|"-s purge"*lib-b*) echo "Purg theirs [1]" ;; esac; exit 0'
    path = tools(tmp_path / "bin", dpkg=":", dpkg_query=DPKG_QUERY, apt_get=simulated)
    lines = [script.PRELUDE, "if purge apt alone backend lib-a lib-b; then echo all; fi", "exit $failed"]
    done = sh("\n".join(lines), tmp_path, PATH=path)
    assert done.returncode == 0 and "all" not in done.stdout.split(), done.stderr
    assert "packages that others need now: backend lib-a lib-b" in done.stdout
    purged = [line for line in (tmp_path / "bin/calls").read_text().splitlines() if line.startswith("apt-get purge")]
    assert [line.split()[-1] for line in purged] == ["alone"] and "lib" not in purged[0]


def test_undo_script_keeps_configuration_of_packages_removed_before_install(tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", dpkg=":", dpkg_query=DPKG_QUERY, apt_get=":")
    lines = [script.PRELUDE, "configured='lib-a'", "if purge apt alone lib-a lib-b; then echo all; fi", "exit $failed"]
    done = sh("\n".join(lines), tmp_path, PATH=path)
    assert done.returncode == 0 and "all" in done.stdout.split(), done.stderr
    calls = [line.split() for line in (tmp_path / "bin/calls").read_text().splitlines() if line.startswith("apt-get ")]
    told = [
        [word for word in call if word in ("remove", "purge", "alone", "lib-a", "lib-b")] for call in calls if call[1] != "-s"
    ]
    assert told == [["remove", "lib-a"], ["purge", "alone", "lib-b"]]


def test_undo_script_purges_nothing_when_an_unexplained_package_would_go(tmp_path: Path) -> None:
    simulated = 'case "$1" in -s) [ "$*" = "-s purge" ] || echo "Purg stranger [1]" ;; esac; exit 0'
    path = tools(tmp_path / "bin", dpkg=":", dpkg_query=DPKG_QUERY, apt_get=simulated)
    done = sh("\n".join([script.PRELUDE, "if purge apt alone lib-b; then echo all; fi", "exit $failed"]), tmp_path, PATH=path)
    assert done.returncode == 0 and "packages that others need now: alone lib-b" in done.stdout, done.stderr
    assert "apt-get purge" not in (tmp_path / "bin/calls").read_text()


def test_undo_script_reports_a_failed_purge(tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", dpkg=":", dpkg_query=DPKG_QUERY, apt_get='case "$1" in purge) exit 100 ;; esac')
    lines = [script.PRELUDE, "if purge apt alone; then echo all; fi", "exit $failed"]
    done = sh("\n".join(lines), tmp_path, PATH=path)
    assert done.returncode == 1 and "all" not in done.stdout.split() and "Could not be undone: apt-get purge" in done.stderr


def test_undo_script_keeps_needed_rpms_with_their_dependencies(tmp_path: Path) -> None:
    rpm = r"""
case "$*" in
    "-e --test"*server*) echo "error: Failed dependencies:
	server-api >= 2 is needed by (installed) theirs-1.0-1.x86_64" >&2; exit 1 ;;
    "-e --test"*lib-a*) echo "	lib-a.so.1()(64bit) is needed by (installed) server-2-1.x86_64" >&2; exit 1 ;;
    *whatprovides*server-api) echo '=server' ;;
    *whatprovides*lib-a.so*) echo '=lib-a' ;;
    *whatprovides*) echo "no package provides $5" ;;
esac"""
    path = tools(tmp_path / "bin", rpm=rpm, dnf=":")
    lines = [script.PRELUDE, "if purge dnf alone lib-a server; then echo all; fi", "exit $failed"]
    done = sh("\n".join(lines), tmp_path, PATH=path)
    assert done.returncode == 0 and "packages that others need now: server lib-a" in done.stdout, done.stderr
    removed = [line for line in (tmp_path / "bin/calls").read_text().splitlines() if line.startswith("dnf")]
    assert [line.split()[-1] for line in removed] == ["alone"] and "lib-a" not in removed[0]


def test_undo_script_removes_no_rpm_when_an_unexplained_rpm_would_go(tmp_path: Path) -> None:
    rpm = 'case "$*" in "-e --test"*) echo "	/usr/bin/tool is needed by (installed) stranger-1.0-1.x86_64" >&2; exit 1 ;; esac'
    path = tools(tmp_path / "bin", rpm=rpm, dnf=":")
    done = sh("\n".join([script.PRELUDE, "if purge dnf alone server; then echo all; fi", "exit $failed"]), tmp_path, PATH=path)
    assert done.returncode == 0 and "packages that others need now: alone server" in done.stdout, done.stderr
    assert "dnf" not in (tmp_path / "bin/calls").read_text()


def test_undo_script_keeps_only_rpms_named_by_a_boolean_dependency(tmp_path: Path) -> None:
    rpm = r"""
case "$*" in
    "-e --test"*lib-a*) echo "	(lib-a(two) if old) is needed by (installed) theirs-1.0-1.x86_64" >&2; exit 2 ;;
    *whatprovides*"lib-a(two)") echo '=lib-a' ;;
    *whatprovides*) echo "no package provides $5" ;;
esac"""
    path = tools(tmp_path / "bin", rpm=rpm, dnf=":")
    done = sh("\n".join([script.PRELUDE, "purge dnf alone lib-a server", "exit $failed"]), tmp_path, PATH=path)
    assert done.returncode == 0 and "packages that others need now: lib-a." in done.stdout, done.stderr
    removed = [line for line in (tmp_path / "bin/calls").read_text().splitlines() if line.startswith("dnf")]
    assert [line.split()[-2:] for line in removed] == [["alone", "server"]]


def test_a_file_is_owned_when_either_package_manager_says_so(tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", rpm="[ $2 = /etc/of-rpm ]", dpkg_query="[ $2 = /etc/of-dpkg ]")
    lines = [script.PRELUDE, "for path in /etc/of-rpm /etc/of-dpkg /etc/free; do if owned $path; then echo $path; fi; done"]
    assert sh("\n".join(lines), tmp_path, PATH=path).stdout.split() == ["/etc/of-rpm", "/etc/of-dpkg"]


@pytest.mark.parametrize("gid", ["1234", "104"])
def test_undo_script_removes_a_user_whatever_its_group(tmp_path: Path, gid: str) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0::/:/bin/sh\nnqrust:x:998:1234::/:/bin/false\n")
    (tmp_path / "group").write_text(f"root:x:0:\nnqrust:x:{gid}:\nnobody:x:99:\n")
    path = tools(tmp_path / "bin", id="echo 1234", usermod=":", userdel=":")
    prelude = script.PRELUDE.replace("/etc/passwd", f"{tmp_path}/passwd").replace("/etc/group", f"{tmp_path}/group")
    done = sh("\n".join([prelude, "remove_user nqrust", "remove_user other", "exit $failed"]), tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    calls = [line for line in (tmp_path / "bin/calls").read_text().splitlines() if line.startswith("user")]
    leaving = ["usermod --gid nobody --home /nonexistent nqrust"] if gid == "1234" else []
    assert calls == [*leaving, "userdel nqrust"]


def test_undo_script_empties_and_keeps_an_earlier_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "base/1").mkdir(parents=True)
    for name in ("base/1/x", "PG_VERSION", ".hidden", "..odd", "a b"):
        (data / name).write_text("x")
    (data / "link").symlink_to(tmp_path)
    lines = [script.PRELUDE, f"remove_contents {data}", f"remove_contents {tmp_path}/gone", "exit $failed"]
    assert sh("\n".join(lines), tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == [data] and list(data.iterdir()) == []


def test_undo_script_handles_configuration_folders_and_copies(tmp_path: Path) -> None:
    sums = {text: hashlib.sha256(text.encode()).hexdigest() for text in ("mine\n", "shipped\n")}
    for name, text in (("conf", "mine\n"), ("conf.rpmnew", "shipped\n"), ("conf.rpmsave", "edited\n")):
        (tmp_path / name).write_text(text)
    copies = [f"drop_copy {tmp_path}/{n} {sums[t]} {tmp_path}/conf {sums['mine' + chr(10)]}"
              for n, t in (("conf.rpmnew", "shipped\n"), ("conf.rpmsave", "mine\n"))]  # fmt: skip
    owner = f"{os.getuid()} {os.getgid()}"
    folders = [f"put_directory {tmp_path}/again 0750 {owner}", f"put_directory {tmp_path}/far/off 0750 {owner}"]
    done = sh("\n".join([script.PRELUDE, *copies, *folders, "exit $failed"]), tmp_path)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} >= {"conf", "conf.rpmsave", "again"}
    assert not (tmp_path / "conf.rpmnew").exists() and not (tmp_path / "far").exists()
    assert (tmp_path / "again").stat().st_mode & 0o7777 == 0o750


@pytest.mark.parametrize("control", ["missing", "broken", "works"])
def test_undo_script_ends_supervisord_when_supervisorctl_is_gone(control: str, tmp_path: Path) -> None:
    """Its Python may be gone, and what it runs would go on beside a user and files that are being removed."""
    config = str(tmp_path / "supervisord.conf")
    program = tmp_path / "supervisorctl"
    if control != "missing":
        program.write_text("#!/no/such/python\n" if control == "broken" else f'#!/bin/sh\necho "$*" >{tmp_path}/told\nexit 7\n')
        program.chmod(0o755)
    supervisord = tmp_path / "supervisord"
    supervisord.write_text("while :; do sleep 0.1; done\n")
    with subprocess.Popen(["sh", str(supervisord), "-c", config]) as daemon:
        try:
            done = sh(f"{PRELUDE}\nsupervisor_program stop web {program} -c {config}\n", tmp_path)
            assert done.returncode == 0, done.stderr
            if control == "works":
                assert daemon.poll() is None and (tmp_path / "told").read_text() == f"-c {config} stop web\n"
            else:
                assert daemon.wait(5) == -15
        finally:
            daemon.kill()


def test_nqr_ends_a_supervisord_without_its_control_program() -> None:
    made = context()
    host = made.host
    assert isinstance(host, FakeHost)
    config, control = "/etc/supervisord.conf", "/opt/venv/bin/supervisorctl"
    host.put(control, "#!/no/such/python\n", mode=0o755)
    host.on(control, prefix=True, answer=ProgramMissing(control))
    host.put("/proc/4711/cmdline", f"/opt/venv/bin/python\0/opt/venv/bin/supervisord\0-c\0{config}\0")
    host.processes.add(4711)
    undo = Undo(
        "unit",
        {"supervisor": "supervisord", "name": "web", "enabled": False, "active": False, "control": [control, "-c", config]},
    )
    assert isinstance(revert(made, undo), Reverted)
    assert host.signals == [(4711, 15)]


def test_undo_script_removes_chains_added_by_a_rule_change() -> None:
    """An isolated network that became NAT: no older record knows of the new chain."""
    added = [["nat", "POSTROUTING", "NQR-POSTROUTING", "-j", "NQR-POSTROUTING"]]
    change = Undo("ruleset", {"binary": "iptables", "prior": {}, "jumps": [], "added": added})
    text = script.render(context(), [entry(1, change)], retain=lambda entry: False)
    assert "remove_rule iptables nat POSTROUTING -j NQR-POSTROUTING" in text
    assert "remove_chain iptables nat NQR-POSTROUTING" in text

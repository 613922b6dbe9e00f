"""Commands as people guess them who know docker, incus, multipass and kubectl: other names, and questions that lead on."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from tests.unit.cli.test_cli_contract import nqr
from tests.unit.installer.effects.fake_manager import SNAPSHOT, VM, FakeManager

from nqrust.cli import app, pages, suggestions, tree
from nqrust.cli.__main__ import run
from nqrust.cli.vm import ssh as vm_ssh
from nqrust.cli.vm.logs import last
from nqrust.contract.vms import Vm

TREE = app.command()


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> FakeManager:
    monkeypatch.setenv("NQR_MANAGER_URL", "http://manager.example:1")
    monkeypatch.setenv("NQR_TOKEN", "good")
    monkeypatch.setattr(app, "command", lambda: TREE)
    return FakeManager().install(monkeypatch)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("ls", "GET /v1/vms"), ("ps", "GET /v1/vms"), ("vm list", "GET /v1/vms"), ("vm ps", "GET /v1/vms"),
        ("rm web1", "DELETE /v1/vms/v1"), ("vm delete web1", "DELETE /v1/vms/v1"), ("vm remove web1", "DELETE /v1/vms/v1"),
        ("vm inspect web1", "GET /v1/vms/web1"), ("vm info web1", "GET /v1/vms/web1"), ("image list", "GET /v1/images"),
        ("host list", "GET /v1/hosts"), ("host inspect h1", "GET /v1/hosts/h1"), ("vm snapshot list web1", "GET /v1/vms/web1/snapshots"),
        ("token list", "GET /v1/tokens"), ("template delete small", "DELETE /v1/templates/small"), ("volume list", "GET /v1/volumes"),
        ("ps -a", "GET /v1/vms"), ("ps -aq", "GET /v1/vms"), ("list", "GET /v1/vms"), ("delete web1", "DELETE /v1/vms/v1"),
        ("start web1", "POST /v1/vms/web1/start"), ("stop web1", "POST /v1/vms/web1/stop"), ("restart web1", "POST /v1/vms/web1/restart"),
        ("pause web1", "POST /v1/vms/web1/pause"), ("resume web1", "POST /v1/vms/web1/resume"), ("inspect web1", "GET /v1/vms/web1"),
        ("show web1", "GET /v1/vms/web1"), ("create web1 --image tiny --no-wait", "POST /v1/vms"), ("logs web1", "GET /v1/vms/web1/console/log"),
        ("images", "GET /v1/images"), ("pull nginx", "POST /v1/images/pull"), ("rmi tiny", "DELETE /v1/images/tiny"),
        ("rmi nginx:alpine", "DELETE /v1/images/tiny"), ("image inspect nginx:alpine", "GET /v1/images/tiny"),
        ("snapshot create web1 s1", "POST /v1/vms/web1/snapshots"), ("snapshot ls web1", "GET /v1/vms/web1/snapshots"),
    ],
)  # fmt: skip
def test_an_alias_runs_the_command_that_it_stands_for(words: str, call: str, manager: FakeManager) -> None:
    manager.state = "stopped"
    manager.snapshots = []
    assert run(words.split()) == 0
    assert call in [asked.partition("?")[0] for asked, _ in manager.asked]


def test_a_cloud_image_is_found_by_its_name_in_the_catalogue(manager: FakeManager) -> None:
    assert run(["rmi", "debian:trixie"]) == 0
    assert "GET /v1/images?reference=debian-13" in [asked for asked, _ in manager.asked]


def test_aliases_are_hidden_and_never_hide_a_command() -> None:
    def groups(node: Any) -> Any:
        yield node
        for inner in node.commands.values():
            if hasattr(inner, "commands"):
                yield from groups(inner)

    for group in groups(TREE):
        assert not set(tree.ALIASES) & set(group.commands)
        assert isinstance(group, tree.Commands), "every group has the aliases"
    assert not set(tree.SHORTCUTS) & set(TREE.commands)


def test_help_of_an_alias_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ps", "--help"]) == 0 and "Usage: nqr vm ls " in capsys.readouterr().out
    assert run(["vm", "delete", "--help"]) == 0 and "Usage: nqr vm rm " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("vm lst", "nqr vm ls"), ("vm lits", "nqr vm ls"),
        ("vms", "nqr vm ls"),
        ("launch", "nqr vm create"), ("vm launch", "nqr vm create"), ("kill web1", "nqr vm stop web1"),
        ("nodes", "nqr host ls"), ("drain h1", "nqr host drain h1"), ("instal", "nqr install"), ("strat web1", "nqr vm start"),
        ("image lst", "nqr image ls"), ("image pul x", "nqr image pull x"), ("vm snapshot lst", "nqr vm snapshot ls"),
        ("lss", "nqr vm ls"), ("hosts", "nqr host ls"), ("token delet x", "nqr token rm"),
        ("attach web1", "nqr vm console web1"), ("help", "nqr --help`"), ("help vm", "nqr vm --help`"),
        ("vm help", "nqr vm --help`"), ("container ls", "nqr vm ls"), ("config set a", "nqr install"), ("network ls", "nqr network status"),
        ("volume create", "nqr volume attach"), ("host add h2", "nqr host token h2"), ("find debian", "nqr image ls"),
        ("import debian", "nqr image import debian"), ("commit web1", "nqr vm snapshot create web1"), ("port web1", "nqr vm forward web1"),
        ("snapshots web1", "nqr vm snapshot ls web1"), ("top web1", "nqr vm show web1"), ("snapshot web1 s1", "nqr vm snapshot create web1 s1"),
        ("restore web1 s1", "nqr vm snapshot restore web1 s1"), ("strat web1", "nqr vm start web1"),
    ],
)  # fmt: skip
def test_a_wrong_command_leads_to_what_was_meant(words: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words.split()) == 2
    first, cure = capsys.readouterr().err.splitlines()
    assert first.startswith("NQR-USE-005  ") and cure.startswith(f"  cure: Did you mean `{meant}")


def test_a_word_like_no_other_leads_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words, help in ((["push", "x"], "nqr --help"), (["qqqq"], "nqr --help"), (["vm", "qqqq"], "nqr vm --help")):
        assert run(words) == 2 and f"cure: See: {help}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("vm create web1 --mem 1G", "--memory"), ("vm create web1 --ram 1G", "--memory"), ("vm create web1 --cpus 2", "--vcpus"),
        ("vm create web1 -p 80:80", "--forward"), ("vm ls --format json", "--output"), ("vm ls --json", "--output"),
        ("install --yes", "--non-interactive"),
    ],
)  # fmt: skip
def test_a_wrong_option_leads_to_what_was_meant(words: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("NQR-USE-002  ") and f"Did you mean {meant}?" in said


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("vm ls --all", "Leave it out: the list has all VMs"),
        ("run -it alpine sh", "Leave it out: for a terminal in the VM, use `nqr vm shell NAME`."),
    ],
)  # fmt: skip
def test_an_option_that_nqr_does_without_is_explained(words: str, cure: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("NQR-USE-002  ") and cure in said


def test_logs_knows_vms_beside_services(manager: FakeManager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "web1"]) == 0 and capsys.readouterr().out == "booting\nup\n"
    manager.deleted = True  # from here on, no VM has any name
    assert run(["logs", "web9"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("NQR-USE-070  There is no service and no VM web9.") and "nqr vm ls" in said
    assert run(["logs", "managr"]) == 1 and "Did you mean manager?" in capsys.readouterr().err


def test_a_service_with_a_typing_error_needs_no_manager(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NQR_MANAGER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NQR_TOKEN", "t")
    assert run(["logs", "manger"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("NQR-USE-070  There is no service and no VM manger.") and second == "  cure: Did you mean manager?"


def test_the_last_lines_of_a_vms_log() -> None:
    said = "one\r\r\ntwo\r\r\nlogin: "
    assert (last(said, 1), last(said, 2), last(said, 9)) == ("login: ", "two\r\r\nlogin: ", said)


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ("web1 ls -l", "web1 -- ls -l"), ("-it web1 sh -c true", "-it web1 -- sh -c true"), ("web1 -e A=b ls -e", "web1 -e A=b -- ls -e"),
        ("--env=A web1 ls", "--env=A web1 -- ls"), ("web1 -- ls -l", "web1 -- ls -l"), ("web1", "web1"), ("-e A", "-e A"),
    ],
)  # fmt: skip
def test_a_command_in_a_guest_needs_no_dashes_before_it(words: str, taken: str) -> None:
    assert pages.separated(words.split(), {"-e", "--env"}) == taken.split()


def test_ssh_takes_the_user_before_the_name(manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(vm_ssh.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(vm_ssh, "_running", lambda name, url: Vm.model_validate({**VM, "name": name}))
    monkeypatch.setattr(vm_ssh, "_way", lambda vm, url: None)
    monkeypatch.setattr(vm_ssh, "_host_keys", lambda name, url, accept: ["ssh-ed25519 AAAA"])
    monkeypatch.setattr(vm_ssh, "_known_hosts", lambda *given: "known")
    monkeypatch.setattr(vm_ssh.os, "execv", lambda program, argv: called.append(argv))
    for words in (["ssh", "debian@web1", "uname", "-a"], ["ssh", "-l", "debian", "web1", "--", "uname", "-a"]):
        assert run(words) == 0
    assert called[0] == called[1] and called[0][-6:] == ["-l", "debian", "--", "10.0.0.10", "uname", "-a"]


def test_words_of_other_programs_lead_to_commands_that_exist() -> None:
    for command in (*suggestions._ELSEWHERE.values(), *suggestions._IN_GROUPS.values(), *suggestions._GROUPS.values()):
        node: Any = TREE
        for word in command.split():
            node = node.commands[word]
    assert {*suggestions._ELSEWHERE} & {*TREE.commands, *TREE.commands["vm"].commands} == set()
    options = {name for path in ("vm create", "install", "vm ls") for name in _options(path)}
    assert set(suggestions._OPTIONS.values()) <= options


def _options(path: str) -> list[str]:
    node: Any = TREE
    for word in path.split():
        node = node.commands[word]
    return [name for parameter in node.params for name in parameter.opts]


def test_the_rest_of_a_command_line_is_shown_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reboot", "web\x1b[31m1"]) == 2
    assert "\x1b" not in capsys.readouterr().err
    assert run(["reboot", "a b"]) == 2 and "`nqr vm restart 'a b'`" in capsys.readouterr().err


def test_help_of_the_root_imports_no_group() -> None:
    code = (
        "import sys; from nqrust.cli.__main__ import run; run(['--help']);"
        "sys.exit(', '.join(m for m in sys.modules if m in ('nqrust.cli.vm.commands', 'nqrust.cli.hosts', 'nqrust.cli.connection')) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert nqr("vm").returncode == 0


# --- a VM's name, waits and deletes


def test_the_old_and_the_new_form_of_a_name_are_the_same(manager: FakeManager, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("vm create web1", "vm create --name web1", "vm create web1 --name web1", "template create web1"):
        assert run([*words.split(), "--image", "tiny"]) == 0
    assert [body["name"] for call, body in manager.asked if call.startswith("POST")] == ["web1"] * 4
    assert run(["vm", "create", "web1", "--name", "web2", "--image", "tiny"]) == 2
    assert capsys.readouterr().err.startswith("NQR-USE-003  NAME is web1, and --name is web2.")


def test_create_waits_until_the_vm_runs_unless_told_otherwise(manager: FakeManager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "create", "web1", "--image", "tiny", "--no-wait"]) == 0
    assert [call for call, _ in manager.asked] == ["POST /v1/vms"]
    assert run(["vm", "create", "web1", "--image", "tiny"]) == 0
    assert manager.asked[-1][0].startswith("GET /v1/vms/v1") and "running" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "what", "see"),
    [
        ("vm create web1 --image tiny", "The manager continues to create VM web1.", "nqr vm show web1"),
        ("vm start web1", "The manager continues to start VM web1.", "nqr vm show web1"),
        ("vm stop web1", "The manager continues to stop VM web1.", "nqr vm show web1"),
        ("vm restart web1", "The manager continues to restart VM web1.", "nqr vm show web1"),
        ("vm rm web1 --force", "The manager still deletes VM web1.", "nqr vm ls"),
    ],
)
def test_ctrl_c_during_a_wait_says_what_continues(
    words: str, what: str, see: str, manager: FakeManager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.stuck, manager.patience = True, 3.0
    assert run(words.split()) == 130
    assert capsys.readouterr().err == f"NQR-USE-017  Stopped by SIGINT. {what}\n  cure: Look at it with: {see}\n"
    assert run([*words.split(), "-o", "json"]) == 130
    assert '"NQR-USE-017"' in capsys.readouterr().err


def test_a_vm_that_runs_or_has_snapshots_needs_force(manager: FakeManager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.volumes = [{"device": "vdb", "size_mib": 1, "keep": True}, {"device": "vdc", "size_mib": 1, "keep": False}]
    assert run(["vm", "rm", "web1"]) == 2
    assert capsys.readouterr().err == (
        "NQR-USE-019  VM web1 is running and has 1 snapshot (s1). nqr deleted nothing.\n"
        "  cure: `nqr vm rm --force web1` deletes it with its disk of 32 MiB, 1 snapshot and 1 volume. 1 kept volume stays.\n"
    )
    manager.state = "stopped"
    assert run(["vm", "rm", "web1"]) == 2 and "VM web1 has 1 snapshot (s1)" in capsys.readouterr().err
    assert not manager.deleted
    assert run(["vm", "rm", "-f", "web1"]) == 0 and manager.deleted


@pytest.mark.parametrize("state", ["pending", "starting", "running", "stopping", "paused", "unknown"])
def test_nothing_is_deleted_if_one_vm_needs_force(state: str, manager: FakeManager) -> None:
    manager.state, manager.snapshots = state, []
    assert run(["rm", "web1", "web2"]) == 2 and not manager.deleted


def test_a_snapshot_that_is_not_deleted_is_no_success(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [{**SNAPSHOT, "error": "The disk is read-only."}]
    monkeypatch.setattr(manager, "_snapshot", lambda *_: (200, {"items": left, "total": 1, **left[0]}))
    assert run(["vm", "snapshot", "rm", "web1", "s1"]) == 1
    assert capsys.readouterr().err == "snapshot s1 is not deleted, its state is ready: The disk is read-only.\n"


def test_watch_shows_changes_until_ctrl_c(manager: FakeManager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "ls", "--watch"]) == 130
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 and said.err == "", "nothing changed, so the list is there once"
    assert len(manager.asked) > 100
    assert run(["vm", "ls", "--watch", "-o", "json"]) == 2

"""A value that cannot be: the message names what was typed, says the rule in words, and shows no pattern of a parser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.cli.test_vm_commands import VM, Handler, Manager, answering

from nqrust.cli.__main__ import run


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with answering(Handler, monkeypatch) as server:
        yield server


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("vm create Web --image tiny", "NQR-USE-003  A VM cannot be named “Web”."),
        ("vm create x\ny --image tiny", "A VM cannot be named “x y”."),
        ("vm create web2 --image tiny --vcpus 99", "--vcpus cannot be “99”: it must be at most 32."),
        ("vm adopt v9 --name Bad", "A VM cannot be named “Bad”."),
        ("template create Bad --image tiny", "A template cannot be named “Bad”."),
        ("template create t --image tiny --vcpus 99", "--vcpus is not valid: it must be at most 32."),
        ("template create t --image tiny --disk-iops 1", "--disk-iops is not valid: it must be at least 10."),
        ("vm limit web1 --disk-iops 1", "--disk-iops is not valid: it must be at least 10."),
        ("volume attach web1 --name Bad", "--name is not valid: it does not have the right form."),
        ("vm start web1 --timeout abc", "--timeout is not valid: it must be a number."),
        ("vm stop web1 --grace 601", "--grace is not valid: it must be at most 600."),
        ("event ls -n 0", "--lines is not valid: it must be at least 1."),
        ("event ls -n x", "--lines is not valid: it must be a whole number."),
        ("vm start web1 --timeout", "NQR-USE-004  `nqr vm start`: Option '--timeout' needs a value."),
        ("token create |", "NAME cannot be “”: it must not be empty."),
        ("token create a\nb", "it does not have the right form."),
        ("run --name Bad nginx:alpine", "A VM cannot be named “Bad”."),
        ("run --vcpus 99 nginx:alpine", "--vcpus cannot be “99”: it must be at most 32."),
        ("|", "NQR-USE-005  `nqr` has no command “”."),
        ("bundle verify /nothing/here", "NQR-USE-240  There is no file /nothing/here."),
    ],
)
def test_a_bad_value_is_told_in_words(words: str, told: str, manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([word.replace("|", "") for word in words.split(" ")]) == 2
    said = capsys.readouterr().err
    assert told in said and "pattern" not in said and "Input should" not in said and not manager.asked


@pytest.mark.parametrize("words", ["vm ls --tag db", "vm ls --host h9"])
def test_a_list_that_is_empty_by_its_filter_says_so(
    words: str, manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said that there is no VM."""
    monkeypatch.setattr(Handler, "reply", lambda _: (200, {"items": [], "total": 0}))
    assert run(words.split()) == 0
    assert capsys.readouterr().out == "No VM matches. `nqr vm ls` lists all.\n"
    assert run(["vm", "ls"]) == 0
    assert capsys.readouterr().out.startswith("There is no VM. Make one with")


def test_a_vm_that_fails_is_told_with_the_way_to_create_it_again(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {**VM, "state": "failed", "error": "Port 22/tcp of this host is kept for the platform and for SSH."}
    monkeypatch.setattr(Handler, "reply", lambda _: (200, failed))
    assert run(["vm", "create", "web1", "--image", "tiny", "--forward", "22:22"]) == 1
    said = capsys.readouterr().err
    assert "NQR-API-197  VM web1 failed: Port 22/tcp" in said
    assert "cure: Delete it with `nqr vm rm web1`, then create it with other options." in said

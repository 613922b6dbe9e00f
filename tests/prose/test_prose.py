"""Plain English in the documentation and in every message: tests/prose/rules.py.

`python -m tests.prose [PATH...]` lists what is to be rewritten, of files in the list of exceptions too.
"""

from __future__ import annotations

import pytest

from tests.prose import check, rules
from tests.prose.comments import texts as comment_texts
from tests.prose.exceptions import COMMENTS_NOT_REWRITTEN, NOT_REWRITTEN
from tests.prose.messages import error_classes, flat, texts
from tests.prose.pages import texts as page_texts


@pytest.fixture(scope="module")
def found() -> dict[str, list[rules.Fault]]:
    return check.everything()


def test_each_sentence_is_plain(found: dict[str, list[rules.Fault]]) -> None:
    wrong = [str(fault) for file, faults in found.items() if file not in NOT_REWRITTEN for fault in faults]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_list_of_exceptions_shrinks(found: dict[str, list[rules.Fault]]) -> None:
    """A file that is clean, or gone, leaves the list."""
    assert [file for file in NOT_REWRITTEN if not found.get(file)] == []
    assert list(NOT_REWRITTEN) == sorted(set(NOT_REWRITTEN))


@pytest.fixture(scope="module")
def in_code() -> dict[str, list[rules.Fault]]:
    return check.comments_of_everything()


def test_each_docstring_and_comment_is_plain(in_code: dict[str, list[rules.Fault]]) -> None:
    wrong = [str(fault) for file, faults in in_code.items() if file not in COMMENTS_NOT_REWRITTEN for fault in faults]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_list_of_exceptions_for_comments_shrinks(in_code: dict[str, list[rules.Fault]]) -> None:
    assert [file for file in COMMENTS_NOT_REWRITTEN if not in_code.get(file)] == []
    assert list(COMMENTS_NOT_REWRITTEN) == sorted(set(COMMENTS_NOT_REWRITTEN))


def test_the_search_finds_messages_and_pages(found: dict[str, list[rules.Fault]]) -> None:
    assert {"README.md", "CHANGELOG.md", "src/nqrust/manager/errors.py"} <= found.keys()
    assert check.seen > 2500


@pytest.mark.parametrize(
    ("sentence", "rule"),
    [
        ("Who signs out, is deleted or demoted loses the console.", "noun clause"),
        ("What is kept in that folder is listed by nqr.", "noun clause"),
        ("A file of ours is replaced.", "of ours"),
        ("The file is another's.", "another's"),
        ("It starts by itself.", "by itself"),
        ("A run was cut off by SIGKILL.", "cut off"),
        ("The host is as it was.", "as it was"),
        ("The VM a, the VM b, the VM c, and the VM d stopped.", "commas"),
        (" ".join(["word"] * 26) + ".", "26 words"),
    ],
)
def test_a_bad_sentence_is_found(sentence: str, rule: str) -> None:
    assert any(rule in one for one in rules.broken(sentence, message=True)), rule


@pytest.mark.parametrize(
    "sentence",
    ["What happened?", "nqr-cli created VM web1.", "Not enough memory: needs 900 GiB; host vm has 23 GiB free.", "What you get"],
)
def test_a_good_sentence_is_not(sentence: str) -> None:
    assert list(rules.broken(sentence, message=True)) == []


def test_a_message_is_found_wherever_it_stands(tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("source") / "one.py"
    source.write_text(
        'class Bad(Exception):\n    cure = "look at it there"\n'
        'def f(name, log):\n    """Not this docstring."""\n'
        '    log.error("not this one either")\n'
        '    raise Bad("NQR-API-101", f"no VM {name} here", "one of those" if name else "or of these")\n'
        'def g(events):\n    events.record(1, 2, "Reason", f"ann started VM {events}")\n'
        '    return Option(help="number of retries")\nTABLE = {"a": "A sentence stands here."}\n'
    )
    said = {text for _, text in texts(source, "src/one.py", error_classes([source]))}
    assert said == {
        "look at it there", "no VM X here", "one of those", "or of these", "ann started VM X", "number of retries",
        "A sentence stands here.",
    }  # fmt: skip
    assert flat(__import__("ast").parse("f'a{1}b'", mode="eval").body) == "aXb"


def test_a_page_is_taken_apart_with_its_lines() -> None:
    page = "# Head\n\nOne\ntwo.\n- three\n- four\n\n```bash\nfive\n```\n| a | b |\n|---|---|\n| six `x` | seven |\n"
    assert list(page_texts(page)) == [
        (3, "One two."), (5, "three"), (6, "four"), (11, "a"), (11, "b"), (13, "six `x`"), (13, "seven"),
    ]  # fmt: skip


def test_docstrings_and_comments_are_found_with_their_lines(tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("source") / "one.py"
    source.write_text(
        '"""The module.\n\nAnother paragraph.\n"""\n# first line\n# and second\nONE = 1  # beside it  # noqa: E501\n'
        'def f():\n    """What it gives::\n\n        a = f()\n    """\n    # type: ignore\n    return "no comment"\n'
    )
    assert [(line, text.strip()) for line, text in comment_texts(source)] == [
        (1, "The module."), (1, "Another paragraph."), (9, "What it gives"), (5, "first line and second"),
        (7, "beside it  # noqa: E501"),
    ]  # fmt: skip

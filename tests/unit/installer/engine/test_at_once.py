"""Questions of a preview: several at once, answers in order."""

from __future__ import annotations

import threading

import pytest

from nqrust.installer.engine.at_once import in_order


def test_answers_come_in_order_and_questions_are_asked_together() -> None:
    met = threading.Barrier(4, timeout=20)

    def ask(number: int) -> int:
        met.wait()  # passes only if four are asked at the same time
        return number * 10

    assert list(in_order(ask, [3, 1, 2, 0])) == [30, 10, 20, 0]
    assert list(in_order(ask, [])) == []


def test_an_error_comes_at_its_turn_and_no_question_after_it_begins() -> None:
    asked: list[int] = []

    def ask(number: int) -> int:
        asked.append(number)
        if number == 1:
            raise ValueError("the second")
        return number

    answers = in_order(ask, range(5000))
    assert next(answers) == 0
    with pytest.raises(ValueError, match="the second"):
        next(answers)
    with pytest.raises(StopIteration):
        next(answers)


def test_a_question_that_takes_long_keeps_nobody() -> None:
    for_ever, begun = threading.Event(), threading.Event()

    def ask(number: int) -> int:
        begun.set()
        for_ever.wait()
        return number

    answers = in_order(ask, [1])
    thread = threading.Thread(target=lambda: next(answers), daemon=True)
    thread.start()
    assert begun.wait(20)
    assert all(one.daemon for one in threading.enumerate() if one.name == "question")
    for_ever.set()
    thread.join(20)

"""Questions that do not depend on each other, asked a few at a time. Most of them wait for a program or a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
_AT_ONCE = 8


class _Question(Generic[A]):
    def __init__(self, ask: Callable[[], A]) -> None:
        self._ask = ask
        self._answered = threading.Event()
        self._answer: A
        self._error: BaseException | None = None

    def find(self) -> None:
        try:
            self._answer = self._ask()
        except BaseException as error:  # raised where the answer is needed
            self._error = error
        self._answered.set()

    def answer(self) -> A:
        self._answered.wait()
        if self._error is not None:
            raise self._error
        return self._answer


def in_order(ask: Callable[[Q], A], about: Sequence[Q]) -> Iterator[A]:
    """Yield the answers in the order of `about`, and raise what a question raised at its turn. The threads that ask are daemons: no
    question keeps a program that was interrupted."""
    questions = [_Question(partial(ask, one)) for one in about]
    left, over = iter(questions), threading.Event()
    taking = threading.Lock()

    def work() -> None:
        while not over.is_set():
            with taking:
                question = next(left, None)
            if question is None:
                return
            question.find()

    for _ in range(min(_AT_ONCE, len(questions))):
        threading.Thread(target=work, name="question", daemon=True).start()
    try:
        for question in questions:
            yield question.answer()
    finally:
        over.set()

"""Work beside other work."""

from __future__ import annotations

import threading
import time

import pytest

from nqrust.agent.vms.aside import aside


def test_both_go_on_at_once_and_the_block_ends_when_both_have() -> None:
    begun, ended = threading.Event(), []

    def work() -> None:
        begun.set()
        time.sleep(0.1)
        ended.append("work")

    with aside(work):
        assert begun.wait(10)
        ended.append("block")
    assert ended == ["block", "work"]


def test_an_error_arrives_where_its_work_is_needed() -> None:
    def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), aside(work) as done:
        done()
        pytest.fail("the block went on")


def test_an_error_of_the_block_waits_for_the_work_and_comes_first() -> None:
    ended = []

    def work() -> None:
        time.sleep(0.1)
        ended.append("work")
        raise ValueError("no")

    with pytest.raises(KeyError), aside(work):
        raise KeyError
    assert ended == ["work"]

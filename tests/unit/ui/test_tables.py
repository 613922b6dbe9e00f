"""Searching, sorting and paging of lists."""

from __future__ import annotations

import pytest

from nqrust.ui.tables import Row, View, natural

ROWS: list[Row] = [
    {"name": f"vm-{number}", "memory": number % 3, "find": f"vm-{number} running kvm{number % 2}"} for number in range(1, 61)
]


def names(view: View) -> list[str]:
    return [row["name"] for row in view.of(ROWS)[0]]


def test_a_page_holds_its_rows_and_the_last_one_the_rest() -> None:
    view = View(page=3)
    rows, fitting = view.of(ROWS)
    assert (len(rows), fitting, rows[0]["name"]) == (10, 60, "vm-51")


@pytest.mark.parametrize(("asked", "page"), [(9, 3), (0, 1), (-4, 1)])
def test_a_page_that_is_not_there_becomes_one_that_is(asked: int, page: int) -> None:
    view = View(page=asked)
    view.of(ROWS)
    assert view.page == page


def test_when_rows_go_the_page_goes_with_them() -> None:
    view = View(page=3)
    assert view.of(ROWS[:25]) == (ROWS[:25], 25)
    assert view.of([]) == ([], 0) and view.page == 1


def test_numbers_in_names_sort_as_numbers() -> None:
    assert names(View(sort="name"))[:3] == ["vm-1", "vm-2", "vm-3"]
    assert names(View(sort="name", descending=True))[0] == "vm-60"
    assert sorted(["b", "a10", "A9", "", "10", "9"], key=natural) == ["", "9", "10", "A9", "a10", "b"]


def test_sorting_by_a_number_keeps_the_order_of_equals() -> None:
    assert names(View(sort="memory"))[:3] == ["vm-3", "vm-6", "vm-9"]


@pytest.mark.parametrize(("search", "count"), [("", 60), ("vm-1", 11), ("KVM1 vm-1", 6), ("running", 60), ("stopped", 0)])
def test_every_word_of_a_search_has_to_fit(search: str, count: int) -> None:
    assert View(search=search).of(ROWS)[1] == count


def test_rows_without_words_of_their_own_are_searched_by_what_they_show() -> None:
    rows: list[Row] = [{"name": "a", "role": "admin", "tags": ["x"]}, {"name": "b", "role": "viewer"}]
    assert View(search="viewer").of(rows)[0] == rows[1:]

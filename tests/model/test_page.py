"""A page is a list that knows whether more follows."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from ledger import Page
from ledger.model.page import every_item


def test_a_page_behaves_as_a_list() -> None:
    page = Page(["a", "b"], next="2")
    assert page == ["a", "b"]
    assert Page() == []
    assert not Page([])
    assert page + ["c"] == ["a", "b", "c"]  # noqa: RUF005 - what people write
    assert (page[0], page[-1], page[:1], len(page), "b" in page) == ("a", "b", ["a"], 2, True)
    assert json.dumps({"page": page}) == '{"page": ["a", "b"]}'


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, *(lambda it, p=p: pickle.loads(pickle.dumps(it, p)) for p in range(2, 6))]
)
def test_a_copied_or_pickled_page_keeps_its_next(copied) -> None:
    page = copied(Page(["a", "b"], next="2"))
    assert (type(page), page, page.next) == (Page, ["a", "b"], "2")


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        (Page(), "<Page [], 0 items, the last>"),
        (Page(["a"]), "<Page ['a'], 1 item, the last>"),
        (Page("abcde", next="5:e"), "<Page ['a', 'b', 'c', ...], 5 items, more after='5:e'>"),
    ],
)
def test_the_repr_of_a_page_says_how_many_items_it_has_and_whether_more_follow(page: Page[str], shown: str) -> None:
    assert repr(page) == shown


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_every_item_of_a_list_is_read_once_page_by_page(size: int) -> None:
    read: list[str | None] = []

    def page_after(after: str | None) -> Page[int]:
        read.append(after)
        start = int(after or 0)
        return Page(range(start, min(start + size, 6)), str(start + size) if start + size < 6 else None)

    assert list(every_item(page_after)) == list(range(6))
    assert len(read) == -(-6 // size)

"""Pages of long lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, overload

from ledger.errors import InvalidInput
from ledger.model.values import check_text, check_whole

T = TypeVar("T")
#: Maximum number of items in a page.
MAX_LIMIT = 10_000
#: Number of sessions, and of events or messages, per page in code that reads a whole list page by page.
SESSIONS_PAGE, EVENTS_PAGE = 1000, 500
_CURSOR = re.compile(r"([0-9]{1,18}):(.+)")


def check_limit(limit: int) -> None:
    """Raise InvalidInput unless ``limit`` is 1 to ``MAX_LIMIT``."""
    check_whole(limit, "limit", at_least=1, at_most=MAX_LIMIT)


def position_of(after: str) -> tuple[int, str]:
    """Return the number and the id in a page's ``next``, which has the form ``number:id``.

    Raises:
        InvalidInput: ``after`` is not the ``next`` of a page.
    """
    match = _CURSOR.fullmatch(after) if isinstance(after, str) else None
    if match is None:
        raise InvalidInput(f"after must be the next of an earlier page, not {str(after)[:70]!r}.")
    return int(match[1]), check_text(match[2], "after")


class Page(Sequence[T], Generic[T]):
    """One page of a list: a sequence of consecutive items.

    Attributes:
        next: Pass it as ``after`` to get the next page; None at the end of the list.
    """

    __slots__ = ("_items", "next")

    def __init__(self, items: Sequence[T], next: str | None = None) -> None:
        self._items = items
        self.next = next

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"Page({list(self._items)!r}, next={self.next!r})"

"""Pages: a piece of a longer list that says whether more follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Page(Sequence[T], Generic[T]):
    """Some items of a list, in order.

    Attributes:
        next: Hand it back as ``after`` for the items that follow; None at the end of the list.
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

"""Pages of long lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ledger.errors import InvalidInput
from ledger.model.dict_form import list_form
from ledger.model.display import html_of_table
from ledger.model.values import check_text, check_whole

T = TypeVar("T")
#: Maximum number of items in a page.
MAX_LIMIT = 10_000
#: Number of sessions, and of events or messages, per page in code that reads a whole list page by page.
SESSIONS_PAGE, EVENTS_PAGE = 1000, 500
#: Number of items that the repr of a page shows.
_SHOWN = 3
_CURSOR = re.compile(r"([0-9]{1,18}):(.+)")
_VERSION = re.compile("[0-9]{1,19}")


def check_limit(limit: int, name: str = "limit") -> None:
    """Raise InvalidInput unless ``limit``, which the message calls ``name``, is 1 to ``MAX_LIMIT``."""
    check_whole(limit, name, at_least=1, at_most=MAX_LIMIT)


def position_of(after: str) -> tuple[int, str]:
    """Return the number and the id in a page's ``next``, which has the form ``number:id``.

    Raises:
        InvalidInput: ``after`` is not the ``next`` of a page.
    """
    match = _CURSOR.fullmatch(after) if isinstance(after, str) else None
    if match is None:
        raise InvalidInput(f"after must be the next of an earlier page, not {str(after)[:70]!r}.")
    return int(match[1]), check_text(match[2], "after")


def version_after(after: int | str | None) -> int:
    """Return the version in a page of events' ``next``, which is its decimal digits; None stands for 0.

    A number is returned as it is: the store checks it.

    Raises:
        InvalidInput: ``after`` is text, but not the ``next`` of a page.
    """
    if not isinstance(after, str):
        return 0 if after is None else after
    if not _VERSION.fullmatch(after):
        raise InvalidInput(f"after must be a version, or the next of an earlier page, not {after[:70]!r}.")
    return int(after)


class Page(list[T]):
    """One page of a list: a list of consecutive items.

    Attributes:
        next: Pass it as ``after`` to get the next page; None at the end of the list.
    """

    __slots__ = ("next",)

    def __init__(self, items: Iterable[T] = (), next: str | None = None) -> None:
        super().__init__(items)
        self.next = next

    def __repr__(self) -> str:
        shown = ", ".join([*map(repr, self[:_SHOWN]), *(["..."] if len(self) > _SHOWN else [])])
        count = f"{len(self)} item{'' if len(self) == 1 else 's'}"
        return f"<Page [{shown}], {count}, {'the last' if self.next is None else f'more after={self.next!r}'}>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Return the schema by which pydantic and FastAPI take a page as it is, and write it as a list."""
        return list_form(cls, source, handler)

    def _repr_html_(self) -> str:
        follow = "" if self.next is None else f", more after={self.next!r}"
        title = f"{len(self)} item{'' if len(self) == 1 else 's'}{follow}"
        rows = [item.to_dict() if hasattr(item, "to_dict") else {"item": repr(item)} for item in self]
        return html_of_table(title, rows)


def every_item(page_after: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """Yield every item of a list, which is read page by page.

    Args:
        page_after: Function that returns the page after the ``next`` of the page before; it gets None for the first.
    """
    page = page_after(None)
    yield from page
    while page.next is not None:
        page = page_after(page.next)
        yield from page

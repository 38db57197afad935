"""Pages of what the SDK returns, each of which is also a pandas DataFrame by ``to_frame``.

A column has the name, the type and the meaning of the column of a view, so that the DataFrame of a page and that of a
statement over the view have the same dtypes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ledger.model.call_times import CallTimes
from ledger.model.events import RecordedEvent
from ledger.model.page import Page, T
from ledger.model.session import COLUMNS, Message, Session, ToolCall
from ledger.warehouse.answer import Answer

if TYPE_CHECKING:
    import pandas

#: The range of an INT64.
_WHOLE = range(-(2**63), 2**63)
Row = tuple[Any, ...]


class FramePage(Page[T]):
    """A page that can be converted to a pandas DataFrame. In all else it is a list with ``next``.

    Attributes:
        types: GoogleSQL type of each column of the DataFrame, by name.
    """

    __slots__ = ()
    types: ClassVar[Mapping[str, str]]

    def to_frame(self) -> pandas.DataFrame:
        """Return the page as a pandas DataFrame, whose dtypes are those of ``ledger.sql(...).to_frame()``.

        Integers are ``Int64``, times ``datetime64[us, UTC]``, JSON values are decoded, and what is not known is NA or
        None. An empty page gives a DataFrame with all columns.

        Raises:
            MissingExtra: pandas or pyarrow is not installed.
        """
        return Answer(tuple(self.types), [*self._rows()], tuple(self.types.values())).to_frame()

    def _rows(self) -> Iterable[Row]:
        raise NotImplementedError


class SessionPage(FramePage[Session]):
    """A page of sessions. The DataFrame has a row for each, with the columns of the view ``sessions`` and three more.

    Source: sql/views/sessions.sql
    """

    __slots__ = ()
    types: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(COLUMNS, "STRING"),
        **dict.fromkeys(("constraints", "response_plan", "strategy", "tool_call_results"), "JSON"),
        **dict.fromkeys(("tool_calls", "tool_call_status"), "ARRAY<STRING>"),
        **dict.fromkeys(("created_at", "updated_at", "expires_at"), "TIMESTAMP"),
        "version": "INT64",
        "tags": "ARRAY<STRING>",
        "attributes": "JSON",
        "error": "JSON",
    }

    def _rows(self) -> Iterable[Row]:
        return (tuple(getattr(session, column) for column in self.types) for session in self)


class EventPage(FramePage[RecordedEvent]):
    """A page of events. The DataFrame has a row for each of their changes, with columns of ``session_history``.

    Source: sql/views/session_history.sql
    """

    __slots__ = ()
    types: ClassVar[Mapping[str, str]] = {
        "session_id": "STRING",
        "version": "INT64",
        "event_id": "STRING",
        "event_type": "STRING",
        "field": "STRING",
        "key": "STRING",
        "value": "JSON",
        "removed": "BOOL",
        "user_id": "STRING",
        "actor": "STRING",
        "occurred_at": "TIMESTAMP",
        "recorded_at": "TIMESTAMP",
        "created_at": "TIMESTAMP",
        "idempotency_key": "STRING",
    }

    def _rows(self) -> Iterable[Row]:
        for event in self:
            for change in event.changes:
                yield (
                    *(event.session_id, event.version, event.event_id, event.event_type),
                    *(change.field, change.key, change.value, change.removed),
                    *(event.user_id, event.actor, event.occurred_at, event.recorded_at, event.created_at),
                    event.idempotency_key,
                )


class MessagePage(FramePage[Message]):
    """A page of messages. The DataFrame has a row for each, with columns of the view ``messages``.

    Source: sql/views/messages.sql
    """

    __slots__ = ()
    types: ClassVar[Mapping[str, str]] = {
        "message_id": "STRING",
        "role": "STRING",
        "text": "STRING",
        "content": "JSON",
        "tools_used": "JSON",
        "processing_time_ms": "FLOAT64",
        "token_count": "INT64",
        "error": "JSON",
        "metadata": "JSON",
        "payload": "JSON",
        "version": "INT64",
        "actor": "STRING",
        "occurred_at": "TIMESTAMP",
        "recorded_at": "TIMESTAMP",
    }

    def _rows(self) -> Iterable[Row]:
        for message in self:
            yield (
                *(message.message_id, message.role, _text(message.content), message.content, message.tools_used),
                *(_number(message.processing_time_ms), _whole(message.token_count)),
                *(message.error, message.metadata, message.payload, message.version, message.actor),
                *(message.occurred_at, message.recorded_at),
            )


class ToolCallPage(FramePage[ToolCall]):
    """The tool calls of a session. The DataFrame has a row for each, with columns of the view ``tool_calls``.

    Source: sql/views/tool_calls.sql
    """

    __slots__ = ()
    types: ClassVar[Mapping[str, str]] = {
        "call_id": "STRING",
        "name": "STRING",
        "description": "STRING",
        "status": "STRING",
        "has_result": "BOOL",
        "result": "JSON",
        "definition": "JSON",
        "message_id": "STRING",
        "started_at": "TIMESTAMP",
        "finished_at": "TIMESTAMP",
        "latency_ms": "FLOAT64",
        "retry_count": "INT64",
        "failure_count": "INT64",
    }

    def _rows(self) -> Iterable[Row]:
        for call in self:
            times, definition = call.times or CallTimes(), call.definition
            yield (
                *(call.call_id, call.name, _text(definition.get("description")), call.status),
                *(call.has_result, call.result, definition or None, _text(definition.get("message_id"))),
                *(times.started_at, times.finished_at, times.latency_ms, times.retry_count, times.failure_count),
            )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    """Return an integer that an INT64 can hold; None for anything else, as SAFE_CAST has it in the view."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _WHOLE else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

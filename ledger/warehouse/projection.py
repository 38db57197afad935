"""States, histories and lists of sessions, computed by SQL in any warehouse.

Every lookup by id passes the session's creation time to the warehouse, which then reads only the partition of the
creation day. If the id is a UUIDv7, it contains the creation time. Otherwise the time is looked up in the table
``session_index``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from ledger.errors import InvalidInput
from ledger.model.events import LAST_VERSION, RecordedEvent
from ledger.model.fold import Origin, RegisterValue, State, fold
from ledger.model.ids import created_at_of, creation_day
from ledger.model.instants import from_micros, to_micros, to_text
from ledger.model.page import Page
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Match, SearchCursor
from ledger.model.session import Head, Message
from ledger.model.upcast import Upcaster
from ledger.model.values import check_session_id, decode
from ledger.warehouse import catalog
from ledger.warehouse.base import Parameters, Warehouse
from ledger.warehouse.criteria import Wanted, wanted_texts
from ledger.warehouse.rows import EVENT_KEY, HeadRow, StateRow, canonical_text, event_of, head_of

INSTANT = timedelta(microseconds=1)
#: As a query parameter, a time after all others, as ``LAST_VERSION`` is a version. NULL is not used for "no upper
#: limit", because a NULL parameter has no type.
FAR_FUTURE = datetime(9999, 12, 31, tzinfo=UTC)


class SessionHead(NamedTuple):
    """The head of a session in a warehouse, and the version of one of the session's events.

    Attributes:
        head: The session's owner, creation time, version and last hash.
        strict: True if the session is strict: appends to it in BigQuery compare versions in a transaction.
        event_version: Version of the requested event; None if no event was requested or the session does not have it.
    """

    head: Head
    strict: bool
    event_version: int | None


class ListedSession(NamedTuple):
    """A session in a list.

    Attributes:
        session_id: The session.
        created_at: Its creation time.
        updated_at: The time at which its last event was recorded, as the list was ordered.
    """

    session_id: str
    created_at: datetime
    updated_at: datetime


class Projection:
    """A reader that returns a warehouse's sessions as objects of ``ledger.model``.

    Args:
        warehouse: The warehouse.
        upcast: Brings events of an older schema version to the present shape; None for ``Upcaster()``.
    """

    def __init__(self, warehouse: Warehouse, upcast: Upcaster | None = None) -> None:
        self._warehouse = warehouse
        self._upcast = upcast or Upcaster()

    def creation_of(self, session_id: str) -> datetime | None:
        """Return a session's creation time, from its id or else from ``session_index``; None if neither has it.

        A UUIDv7 contains a time, so that time is returned even if no session has the id.

        Source: sql/statements/find_creation.sql
        """
        return self.creations_of([session_id]).get(session_id)

    def creations_of(self, session_ids: Iterable[str]) -> dict[str, datetime]:
        """Return creation times by session id. Ids for which ``creation_of`` returns None are left out."""
        times = {session_id: created_at_of(check_session_id(session_id)) for session_id in session_ids}
        created = {session_id: at for session_id, at in times.items() if at is not None}
        without_time = sorted(times.keys() - created.keys())
        if without_time:
            created.update(self._ask("find_creation", {"session_ids": without_time}))
        return created

    def standing(self, session_id: str, created_at: datetime, event_id: str = "") -> SessionHead | None:
        """Return the head of a session and the version of one of its events; None if the session does not exist.

        Args:
            session_id: The session.
            created_at: The session's creation time.
            event_id: Id of the event whose version is wanted; an empty string if only the head is wanted.

        Source: sql/statements/read_heads.sql
        """
        for values in self._ask("read_heads", {**span_of([(session_id, created_at)]), "event_id": event_id}):
            row = HeadRow(*values)
            head = Head(
                session_id, row.user_id, row.created_at, row.version, row.updated_at, row.event_hash, row.store_id
            )
            return SessionHead(head, row.strict, row.event_version)
        return None

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = True
    ) -> tuple[Head, State] | None:
        """Return a session's head and state: the latest, or those at a version or time.

        Args:
            session_id: The session.
            version: The version to read. A number above the session's last version means the last version.
            at: The time to read, as a timezone-aware datetime: events recorded later are left out. Events are dated
                by the clock of the session's store.
            with_messages: Include the messages.

        Returns:
            The head and state; None if the session does not exist, or did not exist at the time ``at``.

        Raises:
            InvalidInput: Both a version and a time were given, or the time has no time zone.

        Source: sql/statements/read_states.sql
        """
        if version is not None and at is not None:
            raise InvalidInput("Give a version or a time, not both.")
        if at is not None:
            to_micros(at, "at")
        created_at = self.creation_of(session_id)
        if created_at is None:
            return None
        until = LAST_VERSION if version is None else version
        states = self.states({session_id: created_at}, until=until, at=at or FAR_FUTURE, with_messages=with_messages)
        return states.get(session_id)

    def states(
        self,
        created: Mapping[str, datetime],
        *,
        until: int = LAST_VERSION,
        at: datetime = FAR_FUTURE,
        with_messages: bool = False,
    ) -> dict[str, tuple[Head, State]]:
        """Return the head and state of each session, by id. A session is left out if no event was found.

        Args:
            created: Creation time of each session, by id.
            until: The last version to read.
            at: Events recorded after this time are left out.
            with_messages: Include the messages.
        """
        if not created:
            return {}
        parameters = {**span_of(created.items()), "at_version": until, "at_time": at, "with_messages": with_messages}
        rows: dict[str, list[StateRow]] = {}
        for values in self._ask("read_states", parameters):
            row = StateRow(*values)
            if row.created_at == created[row.session_id]:
                rows.setdefault(row.session_id, []).append(row)
        return {
            session_id: (head_of(of_session), self._state(of_session, until, at, with_messages))
            for session_id, of_session in rows.items()
        }

    def events(
        self, session_id: str, *, after: int = 0, until: int = LAST_VERSION, upcast: bool = True
    ) -> list[RecordedEvent]:
        """Return a session's events, each once, in the order (version, event_id).

        Args:
            session_id: The session; the list is empty if it does not exist.
            after: Only versions above this one.
            until: Only versions up to this one.
            upcast: False to return events as they were recorded.

        Source: sql/statements/read_events.sql
        """
        return list(self.page_of_events(session_id, after=after, until=until, versions=LAST_VERSION, upcast=upcast))

    def page_of_events(
        self, session_id: str, *, after: int, versions: int, until: int = LAST_VERSION, upcast: bool = True
    ) -> Page[RecordedEvent]:
        """Return the first page of those events of a session whose versions are above ``after`` and at most ``until``.

        ``versions`` is the maximum number of different versions in the page. Two events of a lenient session may have
        the same version, so the page may have more events than that.
        """
        created_at = self.creation_of(session_id)
        if created_at is None:
            return Page([])
        one_more = min(versions, LAST_VERSION - 1) + 1
        rows = self._changes(_day_of(session_id, created_at), after, until, one_more)
        events = list(self._events(rows, upcast=upcast))
        numbers = sorted({event.version for event in events})
        if len(numbers) <= versions:
            return Page(events)
        last = numbers[versions - 1]
        return Page([event for event in events if event.version <= last], str(last))

    def messages(
        self, session_id: str, *, after: tuple[int, str] = (0, ""), at_most: int, newest: bool = False
    ) -> list[Message]:
        """Return a session's messages whose (version, id) is above ``after``, in the order (version, id).

        If there are more than ``at_most``, the first ``at_most`` are returned, or the last if ``newest`` is True.

        Source: sql/statements/read_messages.sql
        """
        created_at = self.creation_of(session_id)
        if created_at is None:
            return []
        page = {"after_version": after[0], "after_key": after[1], "at_most": at_most, "newest": newest}
        rows = self._ask("read_messages", {**_day_of(session_id, created_at), **page})
        messages = [
            Message.from_value(key, version, None if text is None else decode(text), Origin(*origin))
            for key, version, text, *origin in rows
        ]
        return messages[::-1] if newest else messages

    def sessions(
        self,
        created_from: datetime,
        created_until: datetime,
        *,
        before: tuple[datetime, str],
        query: SessionQuery,
        wanted: Sequence[Wanted],
        at_most: int,
    ) -> list[ListedSession]:
        """Return the sessions that match every criterion, in the order that the query names, newest first.

        Args:
            created_from, created_until: Range of creation times: from inclusive, until exclusive. The query's
                cost depends on the length of the range.
            before: A position in the list, as (time, id): the time of creation, or of the last event if the query names
                that order. Only sessions later in the list are returned.
            query: Criteria for the owner, the status and the time of the last event, and the order.
            wanted: Each value that the state must contain, equal as ``ledger.model.equality`` defines it. A grant may
                have any value.
            at_most: Maximum number of sessions.

        Source: sql/statements/list_sessions.sql, sql/statements/attribute_texts.sql for arrays and objects
        """
        span = {"created_from": created_from, "created_until": created_until, "user_id": query.user_id or ""}

        def stored(names: Sequence[str]) -> dict[str, list[str]]:
            texts: dict[str, list[str]] = {}
            for name, text in self._ask("attribute_texts", {**span, "names": names}):
                texts.setdefault(name, []).append(text)
            return texts

        texts = wanted_texts(wanted, stored)
        if texts is None:
            return []
        parameters = {
            **span,
            "before": before[0],
            "before_id": before[1],
            "by_update": query.order_by == "updated",
            "updated_before": query.updated_before or FAR_FUTURE,
            "status": query.status or "",
            "unwanted": list(query.without),
            "unwanted_count": len(query.without),
            "at_time": "" if query.at is None else to_text(query.at, "at"),
            "unswept": query.unswept,
            "wanted": texts,
            "wanted_count": len(wanted),
            "at_most": at_most,
        }
        return [ListedSession(*values) for values in self._ask("list_sessions", parameters)]

    def search(
        self,
        created_from: datetime,
        created_until: datetime,
        *,
        after: SearchCursor,
        query: SearchQuery,
        at_most: int,
    ) -> list[Match]:
        """Return the current texts that contain every term of the query, in the order of ``SearchCursor``.

        Texts are searched as they were recorded: events are not upcast.

        Args:
            created_from, created_until: Range of creation times: from inclusive, until exclusive. The query's
                cost depends on the length of the range.
            after: Only matches after this cursor.
            query: Terms and filters; the query's own range of creation times is ignored.
            at_most: Maximum number of matches.

        Source: sql/statements/search_text.sql
        """
        parameters = {
            "created_from": created_from,
            "created_until": created_until,
            "before": from_micros(after.created_at),
            "before_id": after.session_id,
            "after_version": after.version,
            "after_field": after.field,
            "after_key": after.key,
            "user_id": query.user_id or "",
            "session_id": query.session_id or "",
            "visible_to": query.visible_to or "",
            "role": query.role or "",
            "terms": " ".join(f"`{term}`" for term in query.terms.terms),
            "at_most": at_most,
        }
        return [
            Match(session_id, user_id, field, key, version, created_at, query.terms.snippet(text), role)
            for created_at, session_id, version, field, key, user_id, role, text in self._ask("search_text", parameters)
        ]

    def _ask(self, name: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        return self._warehouse.query(catalog.query(name), parameters, operation=name).rows

    def _state(self, rows: Sequence[StateRow], until: int, at: datetime, with_messages: bool) -> State:
        if all(row.schema_version == self._upcast.current for row in rows):
            return {
                (row.field, row.key): RegisterValue(canonical_text(row.text), row.version, row.event_id, row.origin)
                for row in rows
                if not row.removed and (with_messages or row.field != "message")
            }
        changes = self._changes(_day_of(rows[0].session_id, rows[0].created_at), 0, until, LAST_VERSION)
        state = fold(event for event in self._events(changes) if event.recorded_at <= at)
        return {register: value for register, value in state.items() if with_messages or register[0] != "message"}

    def _changes(self, scope: Parameters, after: int, until: int, versions: int) -> list[tuple[Any, ...]]:
        return self._ask("read_events", {**scope, "after_version": after, "until_version": until, "versions": versions})

    def _events(self, rows: Sequence[tuple[Any, ...]], *, upcast: bool = True) -> Iterator[RecordedEvent]:
        # Two events of a lenient session may share a version, so an event is identified by its event_id.
        for _, of_event in groupby(rows, EVENT_KEY):
            event = event_of(list(of_event))
            yield self._upcast(event) if upcast else event


def span_of(sessions: Iterable[tuple[str, datetime]]) -> dict[str, Any]:
    """Return the parameters ``session_ids``, ``created``, ``created_from`` and ``created_until`` for some sessions.

    ``created`` has all creation times, so that days without any of the sessions need not be read. The last two are the
    shortest range (from inclusive, until exclusive) that contains all of these times: BigQuery's manuals promise that
    days outside a range are not read, and do not say so of days that are not in a list.

    Args:
        sessions: Id and creation time of each session; at least one.
    """
    pairs = list(sessions)
    created = sorted({created_at.astimezone(UTC) for _, created_at in pairs})
    return {
        "session_ids": list(dict.fromkeys(session_id for session_id, _ in pairs)),
        "created": created,
        "created_from": created[0],
        "created_until": created[-1] + INSTANT,
    }


def _day_of(session_id: str, created_at: datetime) -> dict[str, Any]:
    """Return the parameters of the ledger's table functions: a session's id, its creation day and the next day."""
    first_day, next_day = creation_day(created_at)
    return {"session_id": session_id, "first_day": first_day, "next_day": next_day}

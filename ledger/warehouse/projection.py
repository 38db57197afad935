"""Latest, as-of and history statements over any warehouse, and what their rows mean.

Every look-up by id names the instant that the session was created at, so the warehouse reads one partition. A UUIDv7
carries it; for other ids the warehouse's ``session_index`` knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from ledger.errors import InvalidInput
from ledger.model.events import RecordedEvent
from ledger.model.fold import RegisterValue, State, fold
from ledger.model.ids import check_session_id, created_at_of, creation_day
from ledger.model.instants import from_micros, to_micros, to_text
from ledger.model.page import Page
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Match, SearchCursor
from ledger.model.session import Head, Message
from ledger.model.upcast import Upcaster
from ledger.model.values import decode
from ledger.warehouse import catalog
from ledger.warehouse.base import Parameters, Warehouse
from ledger.warehouse.rows import EVENT_KEY, HeadRow, StateRow, canonical_text, event_of, head_of

#: Stands for "the latest" and "no end": parameters always have a type that way, which NULL has not.
LAST_VERSION = 2**63 - 1
INSTANT = timedelta(microseconds=1)
FAR_FUTURE = datetime(9999, 12, 31, tzinfo=UTC)
_VERSION_AT = """
SELECT version FROM `${project}.${dataset}.session_version_at`(@session_id, @first_day, @next_day, @at_time)
"""


class SessionHead(NamedTuple):
    """Where a session stands.

    Attributes:
        strict: Whether BigQuery itself is its store, and checks its appends.
        event_version: The version of the event that was asked for; None where the session has none such.
    """

    head: Head
    strict: bool
    event_version: int | None


class Projection:
    """A warehouse's sessions as the model's objects.

    Args:
        warehouse: Any.
        upcast: Brings events of an older shape up to the present one.
    """

    def __init__(self, warehouse: Warehouse, upcast: Upcaster | None = None) -> None:
        self._warehouse = warehouse
        self._upcast = upcast or Upcaster()

    def creation_of(self, session_id: str) -> datetime | None:
        """When a session was created: the time in its id, else what the index says; None for an unknown id.

        Source: sql/statements/find_creation.sql
        """
        return self.creations_of([session_id]).get(session_id)

    def creations_of(self, session_ids: Iterable[str]) -> dict[str, datetime]:
        """When sessions were created, by id; those that nobody knows are not in it."""
        times = {session_id: created_at_of(check_session_id(session_id)) for session_id in session_ids}
        found = {session_id: at for session_id, at in times.items() if at is not None}
        unknown = sorted(times.keys() - found.keys())
        if unknown:
            found.update(self._ask("find_creation", {"session_ids": unknown}))
        return found

    def standing(self, session_id: str, created_at: datetime, event_id: str = "") -> SessionHead | None:
        """Where a session stands, and the version of one of its events; None where nobody began it.

        Args:
            created_at: When it was created.

        Source: sql/statements/read_heads.sql
        """
        for row in self._ask("read_heads", {**span_of({session_id: created_at}), "event_id": event_id}):
            found = HeadRow(*row)
            head = Head(
                session_id,
                found.user_id,
                found.created_at,
                found.version,
                found.updated_at,
                found.event_hash,
                found.store_id,
            )
            return SessionHead(head, found.strict, found.event_version)
        return None

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = True
    ) -> tuple[Head, State] | None:
        """The head and state of a session: now, at a version, or at a time.

        Args:
            session_id: The session.
            version: In events; above the last it is the latest.
            at: By the clock of the session's store; aware.
            with_messages: Whether the state holds the messages.

        Returns:
            None where there was no such session.

        Raises:
            InvalidInput: Both a version and a time were given, or the time is naive.

        Source: sql/statements/read_states.sql, sql/functions/session_version_at.sql
        """
        if version is not None and at is not None:
            raise InvalidInput("Give a version or a time, not both.")
        if at is not None:
            to_micros(at, "at")
        created_at = self.creation_of(session_id)
        if created_at is None:
            return None
        if at is not None:
            scope = {**_day_of(session_id, created_at), "at_time": at}
            version = self._warehouse.query(_VERSION_AT, scope, operation="version_at").rows[0][0]
        until = LAST_VERSION if version is None else version
        return self.states({session_id: created_at}, until=until, with_messages=with_messages).get(session_id)

    def states(
        self, created: Mapping[str, datetime], *, until: int = LAST_VERSION, with_messages: bool = False
    ) -> dict[str, tuple[Head, State]]:
        """Heads and states of several sessions, by id; those without events are not in it.

        Args:
            created: When each was created.
            until: The last version to look at.
        """
        if not created:
            return {}
        parameters = {**span_of(created), "at_version": until, "with_messages": with_messages}
        slots: dict[str, list[StateRow]] = {}
        for row in self._ask("read_states", parameters):
            slot = StateRow(*row)
            if slot.created_at == created[slot.session_id]:
                slots.setdefault(slot.session_id, []).append(slot)
        return {
            session_id: (head_of(found), self._state(found, until, with_messages))
            for session_id, found in slots.items()
        }

    def events(
        self, session_id: str, *, after: int = 0, until: int = LAST_VERSION, upcast: bool = True
    ) -> list[RecordedEvent]:
        """A session's events, each once, in order.

        Args:
            session_id: The session; an unknown one has no events.
            after: Only versions above this one.
            until: Only versions up to this one.
            upcast: False for the events as they were recorded.

        Source: sql/statements/read_events.sql
        """
        return list(self.page_of_events(session_id, after=after, until=until, versions=LAST_VERSION, upcast=upcast))

    def page_of_events(
        self, session_id: str, *, after: int, versions: int, until: int = LAST_VERSION, upcast: bool = True
    ) -> Page[RecordedEvent]:
        """The events of the next ``versions`` versions after ``after``, and whether more follow."""
        created_at = self.creation_of(session_id)
        if created_at is None:
            return Page([])
        wanted = min(versions, LAST_VERSION - 1) + 1
        rows = self._changes(_day_of(session_id, created_at), after, until, wanted)
        found = list(self._events(rows, upcast=upcast))
        numbers = sorted({event.version for event in found})
        if len(numbers) <= versions:
            return Page(found)
        last = numbers[versions - 1]
        return Page([event for event in found if event.version <= last], str(last))

    def messages(
        self, session_id: str, *, after: tuple[int, str] = (0, ""), at_most: int, newest: bool = False
    ) -> list[Message]:
        """Messages in the order of (version, id): the first beyond ``after``, or the newest, ``at_most`` of them.

        Source: sql/statements/read_messages.sql
        """
        created_at = self.creation_of(session_id)
        if created_at is None:
            return []
        page = {"after_version": after[0], "after_key": after[1], "at_most": at_most, "newest": newest}
        rows = self._ask("read_messages", {**_day_of(session_id, created_at), **page})
        return [Message.from_value(key, version, None if text is None else decode(text)) for key, version, text in rows]

    def sessions(
        self,
        created_from: datetime,
        created_until: datetime,
        *,
        before: tuple[datetime, str],
        query: SessionQuery,
        wanted: Sequence[tuple[str, str, str]],
        at_most: int,
    ) -> list[tuple[str, datetime]]:
        """Ids and creation times of sessions that meet every criterion, newest first.

        Args:
            created_from, created_until: Half-open span; what it costs.
            before: Only sessions after this (created_at, id) in the order of the list.
            query: Their owner, status and last event; see there.
            wanted: (field, key, canonical JSON) that must stand in the session.

        Source: sql/statements/list_sessions.sql
        """
        parameters = {
            "created_from": created_from,
            "created_until": created_until,
            "before": before[0],
            "before_id": before[1],
            "user_id": query.user_id or "",
            "updated_before": query.updated_before or FAR_FUTURE,
            "status": query.status or "",
            "unwanted": list(query.without),
            "at_time": "" if query.at is None else to_text(query.at, "at"),
            "unswept": query.unswept,
            "wanted": ["/".join(slot) for slot in wanted],
            "at_most": at_most,
        }
        return [(session_id, created_at) for session_id, created_at in self._ask("list_sessions", parameters)]

    def search(
        self,
        created_from: datetime,
        created_until: datetime,
        *,
        after: SearchCursor,
        query: SearchQuery,
        at_most: int,
    ) -> list[Match]:
        """Texts as they stand that have every term, in the order of their places; events count as they were recorded.

        Args:
            created_from, created_until: Half-open span; what it costs.
            after: Only what has a later place.
            query: What to look for; its span is not looked at.

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
            "terms": " ".join(f"`{term}`" if " " in term else term for term in query.terms.terms),
            "at_most": at_most,
        }
        return [
            Match(session_id, user_id, field, key, version, created_at, query.terms.snippet(text))
            for created_at, session_id, version, field, key, user_id, text in self._ask("search_text", parameters)
        ]

    def _ask(self, name: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        return self._warehouse.query(catalog.query(name), parameters, operation=name).rows

    def _state(self, slots: Sequence[StateRow], until: int, with_messages: bool) -> State:
        if all(slot.schema_version == self._upcast.current for slot in slots):
            return {
                (slot.field, slot.key): RegisterValue(canonical_text(slot.text), slot.version, slot.event_id)
                for slot in slots
                if not slot.removed and (with_messages or slot.field != "message")
            }
        rows = self._changes(_day_of(slots[0].session_id, slots[0].created_at), 0, until, LAST_VERSION)
        state = fold(self._events(rows))
        return {slot: written for slot, written in state.items() if with_messages or slot[0] != "message"}

    def _changes(self, scope: Parameters, after: int, until: int, versions: int) -> list[tuple[Any, ...]]:
        return self._ask("read_events", {**scope, "after_version": after, "until_version": until, "versions": versions})

    def _events(self, rows: Sequence[tuple[Any, ...]], *, upcast: bool = True) -> Iterator[RecordedEvent]:
        # Two events may share a version; an event_id stands for one event.
        for _, of_event in groupby(rows, EVENT_KEY):
            event = event_of(list(of_event))
            yield self._upcast(event) if upcast else event


def span_of(created: Mapping[str, datetime]) -> dict[str, Any]:
    """The ids of sessions and the half-open span in which they were created, as parameters."""
    return {
        "session_ids": list(created),
        "created_from": min(created.values()).astimezone(UTC),
        "created_until": max(created.values()).astimezone(UTC) + INSTANT,
    }


def _day_of(session_id: str, created_at: datetime) -> dict[str, Any]:
    """The parameters of the table functions."""
    first_day, next_day = creation_day(created_at)
    return {"session_id": session_id, "first_day": first_day, "next_day": next_day}

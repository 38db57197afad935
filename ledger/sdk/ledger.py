"""SessionLedger: the class of the SDK that programs use. Its methods append to an event store and read from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

from ledger.model.events import AppendResult, Change, Envelope
from ledger.model.page import SESSIONS_PAGE, every_item
from ledger.model.queries import OrderBy, SessionQuery
from ledger.model.session import Session
from ledger.model.updates import changes_of, changes_with_calls
from ledger.sdk.access import Access
from ledger.sdk.archive import Archive
from ledger.sdk.arguments import criteria
from ledger.sdk.frames import SessionPage
from ledger.sdk.keyed_fields import KeyedFields
from ledger.sdk.messages import Messages
from ledger.sdk.model_prices import ModelPrices
from ledger.sdk.opening import UNSET
from ledger.sdk.reading import Reading
from ledger.sdk.reserved import check_event, check_fields
from ledger.sdk.search import Search
from ledger.sdk.session_counts import SessionCounts
from ledger.sdk.subscriptions import Subscriptions
from ledger.sdk.timetravel import TimeTravel
from ledger.sdk.tool_calls import ToolCalls
from ledger.sdk.verification import Verifying


class SessionLedger(
    Messages,
    ToolCalls,
    KeyedFields,
    Reading,
    SessionCounts,
    Search,
    ModelPrices,
    Archive,
    Verifying,
    Access,
    TimeTravel,
    Subscriptions,
):
    """An event store of sessions. Each session is a stream of immutable events. Its state is computed from the events.

    Safe for any number of threads, and any number of processes on one file. Use it as a context manager, or call
    ``close``.

    Args:
        url: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db`` or ``bigquery://PROJECT/DATASET``, or the
            path of a SQLite file. A file with ``?mode=ro``, or that cannot be written, is opened read-only. If None,
            ``LEDGER_URL`` from the environment, else ``sqlite:///ledger.db``. For a file, ``?synchronous=NORMAL`` makes
            appends faster, but a power failure may lose the latest ones; ``?max_bytes=N`` limits the file's size.
        create: If true, a missing file is created. If false, a missing file raises ``ConfigurationError``.
        warehouse: ``bigquery://PROJECT/DATASET`` or ``duckdb:///file.duckdb``. The rows of the file are shipped to
            this warehouse, and sessions that are not in the file are read from it. If None, ``LEDGER_WAREHOUSE`` from
            the environment; without either there is no warehouse.
        relay: ``background`` ships rows from a thread of this process; ``off`` leaves the shipping to another process
            (``ledger relay``) or to calls of ``warehouse.sync()``. If None, ``LEDGER_RELAY``, else ``off``.
        default_ttl_hours: Default TTL in hours; None for no expiry. If not given,
            ``LEDGER_SESSION_DEFAULT_TTL_HOURS`` (hours, or ``none``), else the maximum TTL, else no expiry.
        max_ttl_hours: Maximum TTL in hours, within which every session expires; None for no limit. If not given,
            ``LEDGER_SESSION_MAX_TTL_HOURS`` (hours, or ``none``), else no limit.
        strict_values: True to refuse values that are no JSON values, such as a datetime. Otherwise their usual JSON
            form is recorded, as far as there is one. Tuples are always taken, as lists.
        clock: Function that returns the current time, a timezone-aware datetime in UTC.
        ids: Function that returns a new UUIDv7 for a given time.

    Raises:
        ConfigurationError: A URL or a setting is invalid, or the file is not a ledger.
        StoreRejected, StoreUnavailable: The file cannot be opened.
    """

    def create_session(
        self,
        user_id: str | None = None,
        question: str | None = None,
        *,
        fields: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        ttl: timedelta | None = UNSET,
        **envelope: Unpack[Envelope],
    ) -> str:
        """Create a session; on return its first event is durable.

        Args:
            user_id: The owner, which never changes; 1 to 255 characters. Required except on a view (``for_user``).
            question: The user's question.
            fields: Further fields, as for ``update_session``, for example
                ``{"title": "Orders", "tag": {"weekly": True}}``.
            session_id: Your own id, 1 to 255 characters. If None, it is derived from ``event_id``, so that a retry
                returns the same session; without either it is a new UUIDv7.
            ttl: Time until the session expires, at most ``max_ttl_hours``; None for no expiry. If not given, the
                ``expires_at`` in ``fields`` or, without it, ``default_ttl_hours`` determines the time.
            envelope: See ``Envelope``; ``expected_version`` is ignored.

        Returns:
            The session's id.

        Raises:
            WrongExpectedVersion: A session with this id exists.
            InvalidInput: An id or a value cannot be recorded, or the TTL exceeds the maximum.
            IdempotencyConflict: The ``event_id`` was recorded with other content.
            OutcomeUnknown: The answer was lost; call again with the error's ``event_id``.
        """
        return self._create(self._owner(user_id), question, fields, session_id, ttl, envelope)

    def update_session(self, session_id: str, updates: Mapping[str, Any], **envelope: Unpack[Envelope]) -> AppendResult:
        """Set several fields in one event.

        Args:
            session_id: The session.
            updates: Mapping of field to value. None removes the field; for ``expires_at`` it means that the session
                never expires. The value of a keyed field is a mapping of key to value, in which None removes the key:
                ``{"status": "completed", "attribute": {"topic": "orders"}}``. A tool call listed in ``constraints``
                becomes pending if its id is new. The columns of tool calls are taken as ``get_session`` gives them:
                ``tool_calls``, a list of calls, ids or names; ``tool_call_status``, the status of each in the same
                order, or an object of call to status; ``tool_call_results``, an object of call to result. None for
                a key of ``tool_call`` withdraws the call, with its status and result. Another open status of a failed
                session removes its ``error``.
            envelope: See ``Envelope``.

        Returns:
            The result of the append.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: A field does not exist (the message lists the fields) or cannot be changed, or a value has
                the wrong shape.
            SessionEnded: The session is expired or deleted; or archived, in a ledger in BigQuery.
        """
        if isinstance(updates, Mapping):
            check_fields(updates)
            if "expires_at" in updates:
                self._check_expiry(session_id, changes_of({"expires_at": updates["expires_at"]}), envelope)
        return self._derive(session_id, "session.updated", lambda state: changes_with_calls(updates, state), envelope)

    def update_constraints(
        self, session_id: str, constraints: Mapping[str, Any] | None, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Set the constraints. Tool calls that are listed in them and are new to the session become pending.

        A tool call is new if the session has no call with the same id. A call without an id has its name as id or, if
        the list has this name several times without ids, ``name#1``, ``name#2`` ...

        Args:
            session_id: The session.
            constraints: A JSON object; None removes the field.
            envelope: See ``Envelope``.

        Raises:
            SessionNotFound, SessionEnded, InvalidInput: As for ``update_session``.
        """
        updates = {"constraints": constraints}
        return self._derive(
            session_id, "constraints.updated", lambda state: changes_with_calls(updates, state), envelope
        )

    def update_strategy(self, session_id: str, strategy: Any, **envelope: Unpack[Envelope]) -> AppendResult:
        """Set the strategy: any JSON value, often Markdown text; None removes the field.

        Raises:
            SessionNotFound, SessionEnded, InvalidInput: As for ``update_session``.
        """
        return self._append(session_id, "strategy.updated", [_set("strategy", strategy)], envelope)

    def update_response_plan(
        self, session_id: str, response_plan: Mapping[str, Any] | None, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Set the response plan, a JSON object; None removes the field.

        Raises:
            SessionNotFound, SessionEnded, InvalidInput: As for ``update_session``.
        """
        return self._append(session_id, "response_plan.updated", [_set("response_plan", response_plan)], envelope)

    def update_summary(self, session_id: str, summary: str | None, **envelope: Unpack[Envelope]) -> AppendResult:
        """Set the summary, a text; None removes the field.

        Raises:
            SessionNotFound, SessionEnded, InvalidInput: As for ``update_session``.
        """
        return self._append(session_id, "summary.updated", [_set("summary", summary)], envelope)

    def append(
        self, session_id: str, event_type: str, changes: Sequence[Change], **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Record an event of any type, whole or not at all; on return it is durable.

        Args:
            session_id: The session.
            event_type: A noun and a past participle, at most 255 characters, for example ``plan.approved``. Types of
                the ledger's own events about a session as a whole, such as ``access.granted``, are refused.
            changes: 1 to 1,000 changes, of which no two have the same field and key.
            envelope: See ``Envelope``.

        Returns:
            The version that the event got. ``replayed`` is True if an earlier append has recorded the same content
            under this ``event_id``; then nothing was written.

        Raises:
            SessionNotFound, SessionEnded, WrongExpectedVersion, IdempotencyConflict, InvalidInput, ValueTooLarge:
                Nothing was written.
            OutcomeUnknown: The answer was lost; append again with the error's ``event_id``.
        """
        if isinstance(changes, Iterable):  # may be an iterator, and is read here and by the store
            changes = tuple(changes)
            check_event(event_type, changes)
            self._check_expiry(session_id, changes, envelope)
        return self._append(session_id, event_type, changes, envelope)

    @criteria
    def list_sessions(
        self,
        user_id: str | None = None,
        *,
        status: str | None = None,
        session_type: str | None = None,
        tag: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
        shared: bool = False,
        order_by: OrderBy = "created",
        after: str | None = None,
        limit: int | None = 50,
    ) -> SessionPage:
        """Return a page of the sessions that meet all given criteria, newest first, without their messages.

        In the order of the last events, an event that is appended between two pages moves its session to the front. The
        later pages may then lack this session. Every other session is on one page, and on one only.

        Args:
            user_id: The owner.
            status: The status. A session counts as ``expired`` from its ``expires_at`` on, even if no event has
                recorded that yet. Deleted sessions are listed only with ``status="deleted"``.
            session_type: The session's type.
            tag: A tag that the session has.
            attributes: Mapping of attribute name to the value that the session must have. JSON values are compared: 1
                equals 1.0, True does not equal 1, and objects are equal whatever the order of their keys.
            created_from, created_until: Range of the creation time, from inclusive, until exclusive. Both are
                timezone-aware.
            shared: If true, list the sessions that other users share with ``user_id``, not those that ``user_id``
                owns; see ``grant_access``.
            order_by: ``created`` for the newest first; ``updated`` for the latest event (``updated_at``) first.
            after: The ``next`` of an earlier page of a list in the same order.
            limit: Maximum number of sessions, 1 to 10,000; all if None.

        Returns:
            The sessions; ``next`` is None if there are no more. ``to_frame`` gives a DataFrame.

        Raises:
            InvalidInput: A criterion or the order is invalid, ``shared`` is set without a user, or ``after`` is of a
                list in another order.
        """
        span = (created_from, created_until)
        query = self._query(user_id, status, session_type, tag, attributes, *span, shared, order_by)
        if limit is None:
            return SessionPage(every_item(lambda place: self._sessions(query, place or after, SESSIONS_PAGE)))
        return self._sessions(query, after, limit)

    @criteria
    def iter_sessions(
        self,
        user_id: str | None = None,
        *,
        status: str | None = None,
        session_type: str | None = None,
        tag: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
        shared: bool = False,
        order_by: OrderBy = "created",
    ) -> Iterator[Session]:
        """Yield all sessions that meet all given criteria, newest first, without their messages.

        The sessions are read page by page. A status is that at the time of this call. In the order of the last events,
        a session may be left out if an event is appended to it during the iteration; see ``list_sessions``.

        Args:
            user_id, status, session_type, tag, attributes, created_from, created_until, shared, order_by: As for
                ``list_sessions``.

        Raises:
            InvalidInput: A criterion or the order is invalid, or ``shared`` is set without a user.
        """
        span = (created_from, created_until)
        query = self._query(user_id, status, session_type, tag, attributes, *span, shared, order_by)
        return every_item(lambda after: self._sessions(query, after, SESSIONS_PAGE))

    def _query(
        self,
        user_id: str | None,
        status: str | None,
        session_type: str | None,
        tag: str | None,
        attributes: Mapping[str, Any] | None,
        created_from: datetime | None,
        created_until: datetime | None,
        shared: bool,
        order_by: OrderBy,
    ) -> SessionQuery:
        """Return the criteria of a list of sessions; the parameters are those of ``list_sessions``."""
        return SessionQuery(
            **self._owner_criteria(user_id, shared),
            status=status,
            session_type=session_type,
            tag=tag,
            attributes=self._criteria(session_type, attributes),
            created_from=created_from,
            created_until=created_until,
            without=() if status == "deleted" else ("deleted",),
            at=self._clock(),
            order_by=order_by,
        )

    def _sessions(self, query: SessionQuery, after: str | None, limit: int) -> SessionPage:
        page = self.store.sessions(query, after=after, limit=limit)
        return SessionPage([Session(head, state, now=query.at) for head, state in page], page.next)


class SessionManagerV2(SessionLedger):
    """``SessionLedger`` under the name of the BigQuery session manager that it can replace."""


def _set(field: str, value: Any) -> Change:
    return Change(field, "", value, value is None)

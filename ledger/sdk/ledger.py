"""SessionLedger: the SDK. Every method is one append or one read of an event store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

from ledger.model.events import AppendResult, Change, Envelope, RecordedEvent
from ledger.model.fold import Difference, State, diff
from ledger.model.page import Page
from ledger.model.queries import SessionQuery
from ledger.model.session import Session
from ledger.model.updates import call_id_of, changes_of, changes_with_plan
from ledger.model.values import check_text
from ledger.sdk.access import Access
from ledger.sdk.archive import Archive
from ledger.sdk.keyed_fields import KeyedFields
from ledger.sdk.messages import Messages
from ledger.sdk.opening import UNSET
from ledger.sdk.search import Search
from ledger.sdk.session_counts import SessionCounts
from ledger.sdk.subscriptions import Subscriptions
from ledger.sdk.timetravel import TimeTravel


class SessionLedger(Messages, KeyedFields, SessionCounts, Search, Archive, Access, TimeTravel, Subscriptions):
    """Sessions, each a stream of immutable events; what is read is folded from them.

    Safe for any number of threads, and for any number of processes on one file. Use it as a context manager, or call
    ``close``.

    Args:
        url: ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``, with ``?synchronous=NORMAL`` for faster
            appends that a power cut may lose and ``?max_bytes=N`` for a bound on the file, or
            ``bigquery://PROJECT/DATASET``; where None, the environment's ``LEDGER_URL``, else ``sqlite:///ledger.db``.
        create: Whether a missing file is made or refused.
        warehouse: Where the rows of a file are shipped to, and where sessions are read that are not in it:
            ``bigquery://PROJECT/DATASET`` or ``duckdb:///file.duckdb``; where None, ``LEDGER_WAREHOUSE``.
        relay: ``background``: a thread of this process ships what is appended. ``off``: another process does
            (``ledger relay``), or ``sync``. Where None, ``LEDGER_RELAY``, else ``off``.
        default_ttl_hours: How long a session lives where ``create_session`` does not say; None for no end. Where not
            given, the environment's ``LEDGER_SESSION_DEFAULT_TTL_HOURS`` (hours, or ``none``), else 24.
        max_ttl_hours: How long it may live; None for no bound. ``LEDGER_SESSION_MAX_TTL_HOURS``, else 168.
        clock, ids: Sources of times and ids.

    Raises:
        ConfigurationError: A URL or a setting is not one of these, or the file is no ledger.
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
        """Begin a session.

        Args:
            user_id: Its owner, for good; 1 to 255 characters.
            question: What was asked.
            fields: Further fields, as for ``update_session``: ``{"title": "Orders", "tag": {"weekly": True}}``.
            session_id: Your own id, 1 to 255 characters. Where None it follows from ``event_id``, so that sending the
                call again finds the session it began; without either a UUIDv7 is made.
            ttl: How long it lives, at most ``max_ttl_hours``; None for no end. Where not given, ``default_ttl_hours``,
                unless ``fields`` say when it ends.

        Returns:
            The session's id.

        Raises:
            WrongExpectedVersion: There is a session with this id.
            InvalidInput: An id or a value cannot be recorded.
        """
        return self._begin(self._owner(user_id), question, fields, session_id, ttl, envelope)

    def get_session(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, messages: bool = False
    ) -> Session | None:
        """The state of a session; None where there is no such session.

        Args:
            version: As it was after this many events.
            at: As it was at this time by the store's clock, aware; None comes back where it had not begun.
            messages: Whether to read its messages as well.
        """
        found = self.store.state(session_id, version=version, at=at, with_messages=messages)
        if found is None:
            return None
        now = at or (self._clock() if version is None else None)
        return Session(*found, with_messages=messages, now=now)

    def update_session(self, session_id: str, updates: Mapping[str, Any], **envelope: Unpack[Envelope]) -> AppendResult:
        """Set several fields in one event.

        Args:
            updates: Field to value; None takes the field away (``expires_at``: never expires). A keyed field takes an
                object of key to value: ``{"status": "completed", "attribute": {"topic": "orders"}}``. Tool calls that
                ``constraints`` list become pending where their id is new.

        Raises:
            SessionNotFound: There is no such session.
            InvalidInput: A field does not exist (the message lists those that do), is fixed, or has the wrong shape.
        """
        if isinstance(updates, Mapping) and "expires_at" in updates:
            self._check_end(session_id, changes_of({"expires_at": updates["expires_at"]}), envelope)
        return self._derive(session_id, "session.updated", lambda state: changes_with_plan(updates, state), envelope)

    def update_constraints(
        self, session_id: str, constraints: Mapping[str, Any] | None, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Set the constraints; tool calls listed in them become pending where their id (or name) is new."""
        updates = {"constraints": constraints}
        return self._derive(
            session_id, "constraints.updated", lambda state: changes_with_plan(updates, state), envelope
        )

    def update_strategy(self, session_id: str, strategy: Any, **envelope: Unpack[Envelope]) -> AppendResult:
        """Set the strategy: any JSON, often Markdown text."""
        return self._append(session_id, "strategy.updated", [_set("strategy", strategy)], envelope)

    def update_response_plan(
        self, session_id: str, response_plan: Mapping[str, Any] | None, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Set the response plan."""
        return self._append(session_id, "response_plan.updated", [_set("response_plan", response_plan)], envelope)

    def update_summary(self, session_id: str, summary: str | None, **envelope: Unpack[Envelope]) -> AppendResult:
        """Set the summary."""
        return self._append(session_id, "summary.updated", [_set("summary", summary)], envelope)

    def update_tool_call_status(
        self, session_id: str, tool_name: str, status: str, result: Any = UNSET, **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Set the status of a tool call, and its result where one is given; a later status leaves the result alone.

        Args:
            tool_name: The call's id, or its name where only one call has it; an unknown one begins a new call.
            status: pending, running, completed or failed.
            result: Any JSON.

        Raises:
            InvalidInput: The status is none of these, or several calls have this name.
        """
        check_text(tool_name, "tool_name")

        def changes(state: State) -> list[Change]:
            call_id = call_id_of(tool_name, state)
            made = [Change("tool_call_status", call_id, status)]
            if ("tool_call", call_id) not in state and ("tool_call_status", call_id) not in state:
                made.insert(0, Change("tool_call", call_id, {"name": tool_name}))
            return made if result is UNSET else [*made, Change("tool_call_result", call_id, result)]

        return self._derive(session_id, "tool_call.updated", changes, envelope)

    def is_session_complete(self, session_id: str) -> bool:
        """Whether the session has at least one tool call and all of them are completed.

        Raises:
            SessionNotFound: There is no such session.
        """
        return self._require(session_id).complete

    def append(
        self, session_id: str, event_type: str, changes: Sequence[Change], **envelope: Unpack[Envelope]
    ) -> AppendResult:
        """Record an event of your own: any fields, set or removed, in one step.

        Args:
            event_type: What happened, past tense: ``plan.approved``.
            changes: 1 to 1,000, no (field, key) twice.

        Raises:
            SessionNotFound, WrongExpectedVersion, IdempotencyConflict, InvalidInput, ValueTooLarge: Nothing
                was written.
            OutcomeUnknown: Append again with the error's ``event_id``.
        """
        if isinstance(changes, Iterable):  # looked at here and in the store
            changes = tuple(changes)
            self._check_end(session_id, changes, envelope)
        return self._append(session_id, event_type, changes, envelope)

    def history(self, session_id: str, *, after: int = 0, limit: int = 1000) -> Page[RecordedEvent]:
        """Every event of a session in order, the oldest first.

        Args:
            after: Only what came after this version; an earlier page's ``next`` as a number.
            limit: At most this many versions.

        Raises:
            SessionNotFound: There is no such session.
        """
        page = self.store.events(session_id, after=after, limit=limit)
        if not page:
            self._require(session_id)
        return page

    def diff(self, session_id: str, before: int, after: int | None = None) -> list[Difference]:
        """What changed between two versions, messages included.

        Args:
            before: A version; 0 for before the session began.
            after: A version; None for the latest.

        Raises:
            SessionNotFound: There is no such session.
            InvalidInput: The session has had no such version.
        """
        return diff(self._state_at(session_id, before), self._state_at(session_id, after))

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
        after: str | None = None,
        limit: int = 50,
    ) -> Page[Session]:
        """Sessions that meet every criterion given, newest first, without their messages; deleted ones only by that
        status.

        Args:
            user_id: Whose sessions.
            attributes: Attribute name to the value it must have.
            created_from, created_until: Half-open interval, aware.
            shared: Those that others share with this user instead; see ``grant_access``.
            after: The ``next`` of an earlier page.
            limit: At most this many.
        """
        now = self._clock()
        query = SessionQuery(
            **self._listed(user_id, shared),
            status=status,
            session_type=session_type,
            tag=tag,
            attributes=self._criteria(session_type, attributes),
            created_from=created_from,
            created_until=created_until,
            without=() if status == "deleted" else ("deleted",),
            at=now,
        )
        page = self.store.sessions(query, after=after, limit=limit)
        return Page([Session(head, state, now=now) for head, state in page], page.next)


class SessionManagerV2(SessionLedger):
    """The same under the name that users of the BigQuery session manager know; sessions have no end here unless
    ``default_ttl_hours`` or ``create_session`` says so, as they had none there.
    """

    def __init__(self, url: str | None = None, **settings: Any) -> None:
        if settings.get("default_ttl_hours", UNSET) is UNSET:
            settings["default_ttl_hours"] = None
        super().__init__(url, **settings)


def _set(field: str, value: Any) -> Change:
    return Change(field, "", value, value is None)

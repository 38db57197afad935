"""SessionStore: analysis sessions in a ledger, which is both the fast store of the active and the lasting one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Self, Unpack

from ledger.clock import Clock, NewId, new_id, utc_now
from ledger.compat.analysis_sessions.metrics import SessionMetrics, summary_of
from ledger.compat.analysis_sessions.models import (
    ANONYMOUS,
    QueryRecord,
    Session,
    SessionState,
    SessionSummary,
    SessionType,
    TooManyQueries,
    made,
    session_type_of,
)
from ledger.compat.analysis_sessions.settings import SessionSettings
from ledger.compat.analysis_sessions.slots import (
    MARK,
    METRICS,
    OVER,
    changes_between,
    checked,
    is_analysis,
    session_of,
    slots_of,
)
from ledger.compat.given import days_before, ledger_of, names_of, object_of, user_id_of
from ledger.errors import InvalidInput, PermissionDenied, SessionEnded, SessionNotFound, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, MAX_CHANGES, Change, Envelope, NewEvent
from ledger.model.lifetime import CLOSED, DONE
from ledger.model.page import Page, check_limit
from ledger.model.session import Session as Recorded
from ledger.model.values import canonical, check_whole
from ledger.sdk.aio import AsyncSessionLedger
from ledger.sdk.ledger import SessionLedger

#: How often queries are added again because somebody else appended meanwhile.
_QUERY_ATTEMPTS = 50
_PAGE = 1000


class SessionStore:
    """Analysis sessions.

    A session that is read is a copy; ``update_session`` records what was changed in it since, and nothing else, so that
    two programs that change different things of one session both succeed.

    Args:
        db: A ledger, its URL, or None for the one that ``LEDGER_URL`` names, which is opened at first use.
        settings: Where None, those of the environment.
        clock, ids: Sources of times and ids.
    """

    def __init__(
        self,
        db: SessionLedger | AsyncSessionLedger | str | None = None,
        *,
        settings: SessionSettings | None = None,
        clock: Clock = utc_now,
        ids: NewId = new_id,
    ) -> None:
        self.settings = settings or SessionSettings.from_environment()
        lifetimes = {"default_ttl_hours": self.settings.session_default_ttl_hours}
        lifetimes["max_ttl_hours"] = self.settings.session_max_ttl_hours
        self.ledger, self._owned = ledger_of(db, **lifetimes)
        self._clock = clock
        self._ids = ids

    async def initialize(self) -> None:
        """Open the ledger now and not at first use."""
        await self.ledger

    async def _initialized(self) -> Self:
        await self.initialize()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._initialized().__await__()

    async def close(self) -> None:
        """Close the ledger, where it was opened for this store."""
        if self._owned:
            await self.ledger.close()

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    def for_user(self, user_id: Any) -> SessionStore:
        """This store as one user sees it: with their own sessions and those shared with them."""
        view = self.ledger.for_user(user_id_of(user_id))
        return SessionStore(view, settings=self.settings, clock=self._clock, ids=self._ids)

    async def create_session(
        self,
        assets: Iterable[str],
        session_type: SessionType | str = SessionType.EQUITY,
        user_id: Any = None,
        ttl_hours: float | None = None,
        tags: Iterable[str] = (),
        context: Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        **envelope: Unpack[Envelope],
    ) -> Session:
        """Begin a session.

        Args:
            assets: What is analysed: ``["AAPL", "GOOGL"]``.
            user_id: Its owner; ``anonymous`` where None.
            ttl_hours: Hours that it lives, at most ``session_max_ttl_hours``; ``session_default_ttl_hours`` where None.
            session_id: Your own id; one is made where None.

        Raises:
            InvalidInput: It cannot live so long, or a value cannot be recorded.
            WrongExpectedVersion: There is a session with this id.
        """
        hours = self.settings.session_default_ttl_hours if ttl_hours is None else ttl_hours
        fields = {
            "session_type": str(session_type_of(session_type)),
            "attribute": {MARK: True, "assets": names_of(assets, "assets")},
            "tag": dict.fromkeys(names_of(tags, "tags"), True),
            "context": made(SessionState, {"context": object_of(context, "context")}).context,
        }
        await self.ledger
        owner = self.ledger.user_id if user_id is None else user_id
        begun = await self.ledger.create_session(
            ANONYMOUS if owner is None else user_id_of(owner),
            fields=fields,
            session_id=session_id,
            ttl=self._ttl(hours),
            **envelope,
        )
        return session_of(await self.ledger.get_session(begun), self.settings.session_max_queries_per_session)

    async def get_session(self, session_id: str) -> Session | None:
        """A session, also one that is over; None where there is none, or it was deleted."""
        found = await self.ledger.get_session(session_id)
        return session_of(found, self.settings.session_max_queries_per_session) if is_analysis(found) else None

    async def update_session(self, session_id: str, session: Session) -> Session:
        """Record what was changed in a session since it was loaded.

        One that no store gave (``Session.from_dict``) is compared with what is recorded now, and takes nothing away.

        Returns:
            The same object.

        Raises:
            SessionNotFound: There is no such session.
            SessionEnded: It is over.
            TooManyQueries: It would have more than ``session_max_queries_per_session``; nothing was written.
            InvalidInput: It is another session, or a value cannot be recorded.
        """
        if session.id != session_id:
            raise InvalidInput(f"This is session {session.id}, not {session_id}; nothing was written.")
        wanted = slots_of(checked(session))
        before = session._recorded
        if before is None:
            before = slots_of(session_of(await self._required(session_id)))
        changes = changes_between(before, wanted, removing=session._recorded is not None)
        if session.expires_at is not None and any(change.field == "expires_at" for change in changes):
            self._ttl((session.expires_at - self._clock()) / timedelta(hours=1))
        # One event, but for more than a thousand changes. If that breaks off, the same call writes the rest.
        for start in range(0, len(changes), MAX_CHANGES):
            await self._append(session_id, changes[start : start + MAX_CHANGES])
        if not changes:
            await self._required(session_id)
        session._recorded = wanted
        session._max_queries = self.settings.session_max_queries_per_session
        return session

    async def track_query(self, session_id: str, query: QueryRecord) -> None:
        """Record a query without loading its session for the caller.

        Raises:
            SessionNotFound, SessionEnded, TooManyQueries: Nothing was written.
        """
        session = session_of(await self._required(session_id), self.settings.session_max_queries_per_session)
        session.add_query(query)
        await self.update_session(session_id, session)

    async def delete_session(self, session_id: str) -> bool:
        """Take a session out of every list; the ledger keeps its history. False where there is none."""
        with suppress(SessionNotFound):
            if is_analysis(await self.ledger.get_session(session_id)):
                return await self.ledger.delete_session(session_id) is not None
        return False

    async def list_user_sessions(
        self,
        user_id: Any,
        include_archived: bool = False,
        session_type: SessionType | str | None = None,
        limit: int = 50,
        offset: int = 0,
        *,
        after: str | None = None,
    ) -> Page[SessionSummary]:
        """A user's sessions, newest first.

        One of a type that analysis sessions do not have is left out; ``setup_session_db.py verify`` names it.

        Args:
            include_archived: Whether to list those that are over as well.
            session_type: Only of this type.
            limit: At most this many.
            offset: Pass over so many; to go on, ``after`` costs less.
            after: The ``next`` of an earlier page.
        """
        check_limit(limit)
        check_whole(offset, "offset")
        kind = None if session_type is None else str(session_type_of(session_type))
        listed: list[SessionSummary] = []
        skip = offset
        while True:
            page = await self.ledger.list_sessions(
                user_id_of(user_id),
                session_type=kind,
                attributes={MARK: True},
                after=after,
                limit=min(_PAGE, skip + limit - len(listed)),
            )
            for found in page:
                if not include_archived and found.status in OVER:
                    continue
                with suppress(InvalidInput):
                    summary = summary_of(found)
                    if skip:
                        skip -= 1
                    else:
                        listed.append(summary)
            after = page.next
            if after is None or len(listed) == limit:
                return Page(listed, after)

    async def extend_session(self, session_id: str, hours: float | None = None) -> Session:
        """Have a session live for so many hours more than it would.

        Args:
            hours: ``session_default_ttl_hours`` where None.

        Raises:
            SessionNotFound: There is no such session.
            SessionEnded: It is over.
            InvalidInput: It would live for longer than ``session_max_ttl_hours`` from now.
        """
        hours = self.settings.session_default_ttl_hours if hours is None else hours
        if isinstance(hours, bool) or not isinstance(hours, int | float) or hours <= 0:
            raise InvalidInput(f"hours must be a number above 0, not {hours!r}.")
        found = await self._required(session_id)
        ends: datetime | None = found.expires_at
        if ends is not None:
            left = max(timedelta(0), ends - self._clock()) / timedelta(hours=1)
            await self.ledger.extend_session(session_id, self._ttl(left + hours))
        return session_of(await self._required(session_id), self.settings.session_max_queries_per_session)

    async def complete_session(self, session_id: str) -> None:
        """Record that an analysis came to its end as it should; one that only expires counts as abandoned."""
        await self.ledger.complete_session(session_id)

    async def archive_session(self, session_id: str) -> bool:
        """End a session and keep it; False where it is archived already, or there is none."""
        found = await self.ledger.get_session(session_id)
        if not is_analysis(found) or found.status == "archived":
            return False
        await self.record_metrics(session_id)
        await self.ledger.archive_session(session_id)
        return True

    async def cleanup_expired_sessions(self) -> int:
        """Archive every session whose time is over; returns how many there were.

        It is the ledger's sweep, which records the end of all its sessions; those that are no analyses stay expired.
        """
        await self.ledger.expire_old_sessions()
        archived = 0
        async for found in self.all_sessions(status="expired"):
            archived += await self.archive_session(found.session_id)
        return archived

    async def delete_old_archived_sessions(self) -> int:
        """Delete the sessions that have been over for longer than ``session_retention_days``; returns how many.

        Over are those that are expired, archived, completed, failed or deleted. They are deleted for good, here and in
        the warehouse; one that still has to be shipped stays for another time. In BigQuery, whose partitions expire
        instead, they are only taken out of every list.

        Raises:
            PermissionDenied: This is the store as one user sees it.
            StoreUnavailable: The warehouse cannot be reached: what is deleted here is deleted there the next time.
        """
        before = days_before(self._clock(), self.settings.session_retention_days)
        await self.ledger
        if self.ledger.user_id is not None:
            raise PermissionDenied(
                f"The retention is for everybody's sessions, and this is the store as user {self.ledger.user_id} sees "
                "it; nothing was deleted. Use the one that for_user() was called on."
            )
        store = self.ledger.store
        deleted = 0
        for status in (*CLOSED, *DONE):
            async for found in self.all_sessions(status=status, created_until=before):
                if found.updated_at >= before or found.recorded_status != status:
                    continue
                if store.capabilities.purge:
                    deleted += await store.purge(found.session_id, found.version)
                else:
                    deleted += await self.delete_session(found.session_id)
        # Also where nothing was deleted now: in a run before, the warehouse may have been away.
        if store.capabilities.tiered:
            await store.purge_warehouse()
        return deleted

    async def all_sessions(self, **criteria: Any) -> AsyncIterator[Recorded]:
        """Every analysis session that meets the criteria of ``list_sessions``, newest first."""
        after: str | None = None
        while True:
            page = await self.ledger.list_sessions(**criteria, attributes={MARK: True}, after=after, limit=_PAGE)
            for found in page:
                yield found
            after = page.next
            if after is None:
                return

    def now(self) -> datetime:
        """The time by the store's clock."""
        return self._clock()

    async def record_metrics(self, session_id: str) -> SessionMetrics | None:
        """Work out a session's metrics and keep them with it; see ``SessionAnalytics.record_session_metrics``."""
        if not self.settings.session_enable_analytics:
            return None
        found = await self.ledger.get_session(session_id)
        if not is_analysis(found):
            raise SessionNotFound(f"There is no analysis session {session_id}.", session_id=session_id)
        metrics = SessionMetrics.of(found)
        value = metrics.model_dump(mode="json")
        kept = found.attributes.get(METRICS)
        # What is archived takes nothing more: an append would open it again.
        if found.status != "archived" and (kept is None or canonical(kept) != canonical(value)):
            await self._note(session_id, "metrics.recorded", [Change("attribute", METRICS, value)])
        return metrics

    async def _note(self, session_id: str, event_type: str, changes: list[Change]) -> None:
        """Record something about a session, whether or not it is over."""
        await self.ledger
        await self.ledger.store.append(session_id, NewEvent(event_type, changes, self._ids(self._clock())))

    async def _required(self, session_id: str) -> Recorded:
        found = await self.ledger.get_session(session_id)
        if found is None or not is_analysis(found):
            raise SessionNotFound(
                f"There is no analysis session {session_id}; begin it with create_session().", session_id=session_id
            )
        return found  # type: ignore[no-any-return]

    async def _append(self, session_id: str, changes: list[Change]) -> None:
        """Append to a session; where queries come in, exactly on the number of them that was counted."""
        added = {change.key for change in changes if change.field == "query" and not change.removed}
        limit = self.settings.session_max_queries_per_session
        for attempt in range(_QUERY_ATTEMPTS):
            found = await self._required(session_id)
            if found.status in OVER:
                raise SessionEnded(
                    f"Session {session_id} is {found.status}; nothing was written.",
                    session_id=session_id,
                    status=found.status,
                )
            if added and len(found.queries.keys() | added) > limit:
                raise TooManyQueries.of(session_id, limit)
            expected = found.version if added else ANY_VERSION
            try:
                await self.ledger.append(session_id, "session.updated", changes, expected_version=expected)
                return
            except WrongExpectedVersion:
                if attempt == _QUERY_ATTEMPTS - 1:
                    raise

    def _ttl(self, hours: Any) -> timedelta:
        longest = self.settings.session_max_ttl_hours
        if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours <= longest:
            raise InvalidInput(
                f"A session lives for more than 0 and at most {longest:g} hours from now (session_max_ttl_hours), not "
                f"for {hours!r}; nothing was written."
            )
        return timedelta(hours=hours)

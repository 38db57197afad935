"""A store of analysis sessions in a ledger. It replaces both the cache and the database of the earlier service."""

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
    session_type_of,
    validated,
)
from ledger.compat.analysis_sessions.settings import SessionSettings
from ledger.compat.analysis_sessions.slots import (
    MARK,
    METRICS,
    OVER,
    changes_between,
    checked,
    is_analysis,
    registers_of,
    session_of,
)
from ledger.compat.arguments import days_before, ledger_of, names_of, object_of, user_id_of
from ledger.errors import InvalidInput, PermissionDenied, SessionEnded, SessionNotFound, WrongExpectedVersion
from ledger.model.events import ANY_VERSION, MAX_CHANGES, Change, Envelope, NewEvent
from ledger.model.lifetime import CLOSED, DONE, REOPENING
from ledger.model.page import SESSIONS_PAGE, Page, check_limit
from ledger.model.session import Session as Recorded
from ledger.model.values import canonical, check_whole
from ledger.sdk.aio import AsyncSessionLedger
from ledger.sdk.ledger import SessionLedger

#: Maximum number of attempts to add queries while other writers append to the same session.
_QUERY_ATTEMPTS = 50


class SessionStore:
    """A store of analysis sessions.

    A session that the store returns is a copy. ``update_session`` records only what was changed in the copy, so two
    programs that change different parts of one session both succeed.

    Args:
        db: A ledger, its URL, or None for the ledger that ``LEDGER_URL`` names. A URL is opened at first use.
        settings: Defaults to those of the environment.
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
        """Open the ledger now instead of at first use."""
        await self.ledger

    async def _initialized(self) -> Self:
        await self.initialize()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._initialized().__await__()

    async def close(self) -> None:
        """Close the ledger if this store opened it."""
        if self._owned:
            await self.ledger.close()

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    def for_user(self, user_id: Any) -> SessionStore:
        """Return a store on the same ledger, limited to one user's own sessions and those shared with that user."""
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
        """Create a session.

        Args:
            assets: The assets to analyse, for example ``["AAPL", "GOOGL"]``.
            user_id: Owner. If None, the user that this store is limited to; if it is not limited, ``anonymous``.
            ttl_hours: TTL in hours, at most ``session_max_ttl_hours``; defaults to ``session_default_ttl_hours``.
            session_id: The caller's own id; generated if None.

        Raises:
            InvalidInput: The TTL is out of range, or a value cannot be recorded.
            WrongExpectedVersion: A session with this id exists.
        """
        hours = self.settings.session_default_ttl_hours if ttl_hours is None else ttl_hours
        fields = {
            "session_type": str(session_type_of(session_type)),
            "attribute": {MARK: True, "assets": names_of(assets, "assets")},
            "tag": dict.fromkeys(names_of(tags, "tags"), True),
            "context": validated(SessionState, {"context": object_of(context, "context")}).context,
        }
        await self.ledger
        owner = self.ledger.user_id if user_id is None else user_id
        created_id = await self.ledger.create_session(
            ANONYMOUS if owner is None else user_id_of(owner),
            fields=fields,
            session_id=session_id,
            ttl=self._ttl(hours),
            **envelope,
        )
        return self._session_of(await self.ledger.get_session(created_id))

    async def get_session(self, session_id: str) -> Session | None:
        """Return a session, even if it has ended. Return None if it does not exist or was deleted."""
        found = await self.ledger.get_session(session_id)
        return self._session_of(found) if is_analysis(found) else None

    async def update_session(self, session_id: str, session: Session) -> Session:
        """Record the changes made to a session since it was loaded.

        A session that no store returned, for example one from ``Session.from_dict``, is compared with the recorded
        session. Recorded values that the passed session lacks are kept.

        Returns:
            The passed ``session``.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session is expired or archived.
            TooManyQueries: The session would exceed ``session_max_queries_per_session``; nothing was written.
            InvalidInput: The ids differ, or a value cannot be recorded.
        """
        if session.id != session_id:
            raise InvalidInput(f"The session passed is {session.id}, not {session_id}; nothing was written.")
        wanted = registers_of(checked(session))
        before = session._recorded
        if before is None:
            before = registers_of(session_of(await self._required(session_id)))
        changes = changes_between(before, wanted, removing=session._recorded is not None)
        if session.expires_at is not None and any(change.field == "expires_at" for change in changes):
            self._ttl((session.expires_at - self._clock()) / timedelta(hours=1))
        # More than MAX_CHANGES changes need several events. If one fails, calling again records the rest.
        for start in range(0, len(changes), MAX_CHANGES):
            await self._append(session_id, changes[start : start + MAX_CHANGES])
        if not changes:
            await self._required(session_id)
        session._recorded = wanted
        session._max_queries = self.settings.session_max_queries_per_session
        return session

    async def track_query(self, session_id: str, query: QueryRecord) -> None:
        """Record a query without returning its session.

        Raises:
            SessionNotFound, SessionEnded, TooManyQueries: The query cannot be recorded; nothing was written.
        """
        session = self._session_of(await self._required(session_id))
        session.add_query(query)
        await self.update_session(session_id, session)

    async def delete_session(self, session_id: str) -> bool:
        """Remove a session from every list. The ledger keeps its history. Return False if there is no such session."""
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
        """Return a user's sessions, newest first.

        A session whose recorded type is not a ``SessionType`` is left out; ``setup_session_db.py verify`` names it.

        Args:
            include_archived: Include expired and archived sessions.
            session_type: Only sessions of this type.
            limit: Maximum number of sessions.
            offset: Number of sessions to skip; ``after`` is cheaper.
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
                limit=min(SESSIONS_PAGE, skip + limit - len(listed)),
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
        """Extend a session's lifetime.

        Args:
            hours: Hours to add; defaults to ``session_default_ttl_hours``.

        Raises:
            SessionNotFound: The session does not exist.
            SessionEnded: The session has ended.
            InvalidInput: The session would expire more than ``session_max_ttl_hours`` from now.
        """
        hours = self.settings.session_default_ttl_hours if hours is None else hours
        if isinstance(hours, bool) or not isinstance(hours, int | float) or hours <= 0:
            raise InvalidInput(f"hours must be a number above 0, not {hours!r}.")
        found = await self._required(session_id)
        ends: datetime | None = found.expires_at
        if ends is not None:
            left = max(timedelta(0), ends - self._clock()) / timedelta(hours=1)
            await self.ledger.extend_session(session_id, self._ttl(left + hours))
        return self._session_of(await self._required(session_id))

    async def complete_session(self, session_id: str) -> None:
        """Record that an analysis is completed. A session that expires before that counts as abandoned."""
        await self.ledger.complete_session(session_id)

    async def archive_session(self, session_id: str) -> bool:
        """Archive a session: end it, but keep it. Return False if it does not exist or is archived already."""
        found = await self.ledger.get_session(session_id)
        if not is_analysis(found) or found.status == "archived":
            return False
        await self.record_metrics(session_id)
        await self.ledger.archive_session(session_id)
        return True

    async def cleanup_expired_sessions(self) -> int:
        """Archive every expired analysis session. Return the number of sessions archived.

        Other expired sessions of the ledger, which are not analysis sessions, are recorded as expired but not archived.
        """
        await self.ledger.expire_old_sessions()
        archived = 0
        async for found in self.all_sessions(status="expired"):
            archived += await self.archive_session(found.session_id)
        return archived

    async def delete_old_archived_sessions(self) -> int:
        """Purge sessions that ended more than ``session_retention_days`` ago. Return the number of purged sessions.

        Ended sessions are expired, archived, completed, failed or deleted. They are deleted for good, in the store and
        in its warehouse. A session with unshipped rows is left for a later run. If the ledger is in BigQuery, sessions
        are only removed from every list. Their rows are deleted when their partitions expire.

        Raises:
            PermissionDenied: This store is limited to one user.
            StoreUnavailable: The warehouse cannot be reached. The next run deletes the purged sessions there.
        """
        before = days_before(self._clock(), self.settings.session_retention_days)
        await self.ledger
        if self.ledger.user_id is not None:
            raise PermissionDenied(
                "Retention applies to the sessions of all users, and this store is limited to user "
                f"{self.ledger.user_id}; nothing was deleted. Call it on the store that for_user() was called on."
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
        # Even if nothing was deleted now: an earlier run may have been interrupted, or the warehouse was unreachable.
        if store.capabilities.purge:
            await store.forget_purged()
        if store.capabilities.tiered:
            await store.purge_warehouse()
        return deleted

    async def all_sessions(self, **criteria: Any) -> AsyncIterator[Recorded]:
        """Yield every analysis session that meets the criteria of ``list_sessions``, newest first."""
        async for found in self.ledger.iter_sessions(**criteria, attributes={MARK: True}):
            yield found

    def now(self) -> datetime:
        """Return the current time of the store's clock."""
        return self._clock()

    async def record_metrics(self, session_id: str) -> SessionMetrics | None:
        """Record a session's metrics; see ``SessionAnalytics.record_session_metrics``."""
        if not self.settings.session_enable_analytics:
            return None
        found = await self._required(session_id)
        metrics = SessionMetrics.of(found)
        value = metrics.model_dump(mode="json")
        kept = found.attributes.get(METRICS)
        # An append to an archived session would reopen it.
        if found.status != "archived" and (kept is None or canonical(kept) != canonical(value)):
            changes = [Change("attribute", METRICS, value)]
            # By the store, which takes the event even if the session has ended.
            await self.ledger.store.append(session_id, NewEvent("metrics.recorded", changes, self._ids(self._clock())))
        return metrics

    def _session_of(self, found: Recorded) -> Session:
        """Convert a ledger session to an analysis session that takes no more queries than the settings allow."""
        return session_of(found, self.settings.session_max_queries_per_session)

    async def _required(self, session_id: str) -> Recorded:
        found = await self.ledger.get_session(session_id)
        if found is None or not is_analysis(found):
            raise SessionNotFound(
                f"There is no analysis session {session_id}; create it with create_session().", session_id=session_id
            )
        return found  # type: ignore[no-any-return]

    async def _append(self, session_id: str, changes: list[Change]) -> None:
        """Append changes to a session, unless they add queries and the session would then have too many of them."""
        added = {change.key for change in changes if change.field == "query" and not change.removed}
        limit = self.settings.session_max_queries_per_session
        for attempt in range(_QUERY_ATTEMPTS):
            found = await self._required(session_id)
            if found.status in OVER:
                raise SessionEnded(
                    f"Session {session_id} is {found.status}; nothing was written. Reopen it in the ledger with "
                    f"{REOPENING[found.status]}.",
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
                f"The TTL must be more than 0 and at most {longest:g} hours from now (session_max_ttl_hours), "
                f"not {hours!r}; nothing was written."
            )
        return timedelta(hours=hours)

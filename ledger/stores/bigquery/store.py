"""The event store in BigQuery, without a local file. Its URL is ``bigquery://PROJECT/DATASET``.

A session is either lenient or strict, and never changes from one to the other.

Events are appended to a *lenient* session through the Storage Write API, without comparing versions. So two writers may
give the same version to two events. Both events count, and the SQL view ``conflicts`` lists them.

Each event is appended to a *strict* session in a transaction that compares versions. BigQuery allows 25 DML statements
in ten seconds. All strict sessions of a dataset share this limit. ``session_heads`` has a row for each strict session.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ledger import forking
from ledger.clock import Clock, utc_now
from ledger.errors import CapabilityMissing, InvalidInput, LedgerError, OutcomeUnknown, StoreRejected, StoreUnavailable
from ledger.model.events import ANY_VERSION, MAX_EVENT_BYTES, AppendResult, NewEvent, RecordedEvent, prepare
from ledger.model.fields import check_change, check_role
from ledger.model.fold import State
from ledger.model.ids import creation_day
from ledger.model.instants import EPOCH, from_micros, to_micros
from ledger.model.page import Page, check_limit
from ledger.model.queries import SearchQuery, SessionQuery
from ledger.model.search import Match, SearchCursor
from ledger.model.session import Head, Message
from ledger.model.upcast import Upcaster
from ledger.model.values import canonical, check_session_id, check_text, check_whole
from ledger.stores.base import MAX_BYTES, Capabilities
from ledger.stores.bigquery.append import LOCK_TIMEOUT, Appender, CachedHeads
from ledger.stores.bigquery.ingest import Ingestion
from ledger.stores.checks import by_session
from ledger.warehouse.bigquery.errors import OutcomeLost
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.criteria import Wanted
from ledger.warehouse.projection import INSTANT, ListedSession, Projection
from ledger.warehouse.reads import WarehouseReads

#: Maximum size of an event, in bytes, in a strict dataset or with insertAll. Both send JSON texts inside a JSON
#: request, which may have at most 10 MB.
MAX_JSON_EVENT_BYTES = 2_000_000
#: Lists and searches read spans of creation time, newest first. These are the lengths of the newest spans; one more
#: span covers all older times. An older span is read only if the page is not full yet. A span begins at midnight (UTC),
#: so that no day is read for two spans.
SPANS = (timedelta(days=1), timedelta(days=7), timedelta(days=100))
_STORE_NAMESPACE = uuid.UUID("0190163d-8694-7b2e-9c1f-4f6d3a5e7b90")
_LATEST = datetime.max.replace(tzinfo=EPOCH.tzinfo) - timedelta(days=1)


class BigQueryStore(forking.Renewed):
    """An event store in a BigQuery dataset, for any number of threads, processes and machines.

    Opening sends no request and creates nothing: ``create_sessions_table.py`` or ``ledger init`` creates the tables. A
    forked child goes on with connections of its own.

    Args:
        dataset: The dataset and its settings.
        clock, salt: Sources of times and salts.
        upcaster: Brings events of older schema versions to the present one.
        environment: The environment variables that may name an emulator's address; None for those of the process.
        sleep: Function that waits between two attempts, for a number of seconds.

    Raises:
        ConfigurationError: An emulator's address is malformed.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        clock: Clock = utc_now,
        salt: Callable[[], str] = lambda: os.urandom(16).hex(),
        upcaster: Upcaster | None = None,
        environment: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.dataset = dataset
        self.warehouse = BigQueryWarehouse(dataset, environment=environment, sleep=sleep)
        as_json = dataset.strict or dataset.transport == "insertall"
        self._capabilities = Capabilities(
            compare_and_append=dataset.strict,
            gapless_versions=dataset.strict,
            hash_chain=dataset.strict,
            backup=False,
            commit_order=False,
            warehouse=True,
            max_event_bytes=MAX_JSON_EVENT_BYTES if as_json else MAX_EVENT_BYTES,
        )
        self._clock = clock
        self._upcast = upcaster or Upcaster()
        self._projection = Projection(self.warehouse, self._upcast)
        self._reads = WarehouseReads(self._projection)
        self._salt = salt
        self._closed = False
        self.renew()
        forking.register(self, forking.Stage.USERS)

    def renew(self) -> None:
        """Start with no head cached and no lock held: in a child, both would be the parent's."""
        self._heads = CachedHeads()
        self._appender = Appender(
            self.warehouse,
            self._projection,
            store_id=lambda: self.store_id,
            salt=self._salt,
            strict=self.dataset.strict,
            schema_version=self._upcast.current,
        )

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of this store; some of them are declared only if the dataset is strict."""
        return self._capabilities

    @property
    def store_id(self) -> str:
        """The id of the store, made from the project and the dataset, so that it is the same in every process."""
        return str(uuid.uuid5(_STORE_NAMESPACE, f"{self.warehouse.clients.project}/{self.dataset.name}"))

    def append(self, session_id: str, event: NewEvent, *, expected_version: int = ANY_VERSION) -> AppendResult:
        """Record one event, whole or not at all; see ``EventStore.append``.

        In a lenient session ``expected_version`` is compared with the version that this process knows. If they differ,
        the process reads the version and compares again. Another process may append between comparison and append.
        """
        self._check_open()
        check_session_id(session_id)
        prepared = prepare(event, max_bytes=self.capabilities.max_event_bytes)
        check_whole(expected_version, "expected_version", at_least=ANY_VERSION)
        cached = self._heads[session_id]

        def record() -> AppendResult:
            try:
                return self._appender.append(cached, prepared, expected_version, self._clock())
            except OutcomeLost as error:
                cached.head = None
                raise OutcomeUnknown(
                    f"{error} Event {event.event_id} of session {session_id} may or may not be recorded: append it "
                    "again with the same event_id.",
                    session_id=session_id,
                    event_id=event.event_id,
                ) from error
            except LedgerError:
                raise
            except BaseException:  # interrupted: the event may be recorded, so the version is unknown
                cached.head = None
                raise

        return cached.lock.call(LOCK_TIMEOUT, record)

    def ingest(self, events: Iterable[RecordedEvent]) -> int:
        """Record whole events of another store; see ``EventStore.ingest``."""
        self._check_open()
        sessions = by_session(list(events))
        if not sessions:
            return 0
        ingestion = Ingestion(self.warehouse, self._projection, self.store_id, strict=self.dataset.strict)
        try:
            return ingestion.ingest(sessions, self._clock)
        except OutcomeLost as error:
            raise OutcomeUnknown(f"{error} The events may or may not be recorded: ingest them again.") from error
        finally:
            self._heads.evict(sessions)

    def state(
        self, session_id: str, *, version: int | None = None, at: datetime | None = None, with_messages: bool = False
    ) -> tuple[Head, State] | None:
        """Return the head and state of a session; see ``EventStore.state``."""
        self._check_open()
        session = self._reads.state(session_id, version=version, at=at, with_messages=with_messages)
        if version is None and at is None and session is not None:
            self._refresh_head(session_id, session[0])
        return session

    def messages(self, session_id: str, *, after: str | None, limit: int, newest: bool = False) -> Page[Message]:
        """Return a page of messages; see ``EventStore.messages``."""
        self._check_open()
        return self._reads.messages(session_id, after=after, limit=limit, newest=newest)

    def events(self, session_id: str, *, after: int = 0, limit: int = 1000, upcast: bool = True) -> Page[RecordedEvent]:
        """Return a page of events; see ``EventStore.events``."""
        self._check_open()
        return self._reads.events(session_id, after=after, limit=limit, upcast=upcast)

    def version_of(self, session_id: str, event_id: str) -> int | None:
        """Return the version of a recorded event; see ``EventStore.version_of``."""
        self._check_open()
        return self._reads.version_of(session_id, event_id)

    def sessions(self, query: SessionQuery, *, after: str | None = None, limit: int = 50) -> Page[tuple[Head, State]]:
        """Return a page of sessions, newest first; see ``EventStore.sessions``.

        In the order of creation, the newest days are read first. Once the page is full, no older days are read. In the
        order of the last events, all days that the query names are read: the oldest session may have the latest event.
        """
        self._check_open()
        check_limit(limit)
        required = _required_values(query)
        lower, upper = _creation_span(query)
        position = query.position(after)
        before = (_LATEST, "")
        if position is not None:
            before = (from_micros(min(position[0], to_micros(_LATEST))), position[1])
        by_update = query.order_by == "updated"
        listed: list[ListedSession] = []
        parts = [(lower, upper)] if by_update else spans(lower, min(upper, before[0] + INSTANT), self._clock())
        for created_from, created_until in parts:
            listed += self._projection.sessions(
                created_from,
                created_until,
                before=before,
                query=query,
                wanted=required,
                at_most=limit + 1 - len(listed),
            )
            if len(listed) > limit:
                break
        page = listed[:limit]
        states = self._projection.states({each.session_id: each.created_at for each in page})
        cursor = None
        if len(listed) > limit:
            last = page[-1]
            cursor = query.cursor(to_micros(last.updated_at if by_update else last.created_at), last.session_id)
        # A session that retention deleted meanwhile is left out.
        return Page([states[each.session_id] for each in page if each.session_id in states], cursor)

    def search(self, query: SearchQuery, *, after: str | None = None, limit: int = 50) -> Page[Match]:
        """Return current texts that contain every term; see ``EventStore.search``.

        The newest days that the query names are read first. Once the page is full, no older days are read.
        """
        self._check_open()
        check_limit(limit)
        for name in ("user_id", "visible_to"):
            if getattr(query, name) is not None:
                check_text(getattr(query, name), name)
        if query.role is not None:
            check_role(query.role)
        lower, upper = _creation_span(query)
        cursor = SearchCursor(to_micros(_LATEST), "", 0, "", "")
        if after is not None:
            cursor = SearchCursor.of(after)
            cursor = cursor._replace(created_at=min(max(cursor.created_at, 0), to_micros(_LATEST)))
        upper = min(upper, from_micros(cursor.created_at) + INSTANT)
        if query.session_id is not None:
            created_at = self._projection.creation_of(query.session_id)
            if created_at is None:
                return Page([])
            lower, upper = max(lower, created_at), min(upper, created_at + INSTANT)
        matches: list[Match] = []
        for created_from, created_until in spans(lower, upper, self._clock()):
            matches += self._projection.search(
                created_from, created_until, after=cursor, query=query, at_most=limit + 1 - len(matches)
            )
            if len(matches) > limit:
                break
        last = SearchCursor.of_match(matches[limit - 1]).to_text() if len(matches) > limit else None
        return Page(matches[:limit], last)

    def rows_after(self, seq: int, limit: int, *, max_bytes: int = MAX_BYTES) -> Sequence[tuple[Any, ...]]:
        """Refuse: rows in BigQuery have no commit order.

        Raises:
            CapabilityMissing: Always.
        """
        self._check_open()
        raise CapabilityMissing(
            "BigQuery keeps no commit order, so rows cannot be relayed from it; use `ledger export`."
        )

    def last_seq(self) -> int:
        """Refuse: rows in BigQuery have no ``seq``.

        Raises:
            CapabilityMissing: Always.
        """
        self._check_open()
        raise CapabilityMissing("BigQuery keeps no commit order, so there is no last row.")

    def backup(self, path: Path) -> None:
        """Refuse: BigQuery has its own snapshots and exports.

        Raises:
            CapabilityMissing: Always.
        """
        self._check_open()
        raise CapabilityMissing(
            "A ledger in BigQuery cannot be copied to a file; use `ledger export`, or BigQuery's CREATE SNAPSHOT TABLE."
        )

    def close(self) -> None:
        """Close all connections; a second call does nothing."""
        self._closed = True
        self.warehouse.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreRejected(f"{self.dataset.url} is closed; open it again with SessionLedger.open().")

    def _refresh_head(self, session_id: str, head: Head) -> None:
        """Replace the cached head if ``head``, which was just read, is newer.

        While an append holds the lock, nothing is replaced.
        """
        cached = self._heads[session_id]

        def refresh() -> None:
            if cached.head is not None and cached.head.version < head.version:
                cached.head = replace(head, event_hash=head.event_hash if cached.strict else None)
                cached.lifetime = None

        with suppress(StoreUnavailable):
            cached.lock.call(0, refresh)


def spans(lower: datetime, upper: datetime, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Split the time from ``lower`` (inclusive) to ``upper`` (exclusive) and yield its parts, newest first.

    There is one part for each length in ``SPANS``, and one for the remaining time. Each begins at midnight (UTC), or at
    ``lower``. Empty parts are left out.
    """
    end = max(upper, lower)
    for length in SPANS:
        start = lower
        if lower + length < min(end, now):
            start = max(lower, creation_day(min(end, now) - length)[0])
        if start < end:
            yield start, end
            end = start
    if lower < end:
        yield lower, end


def _creation_span(query: SessionQuery | SearchQuery) -> tuple[datetime, datetime]:
    """Return the range of creation times that a query names: from inclusive, until exclusive.

    A limit that the query does not name is the earliest or the latest possible time.
    """
    lower, upper = query.created_from, query.created_until
    return (
        EPOCH if lower is None else from_micros(to_micros(lower, "created_from")),
        _LATEST if upper is None else from_micros(to_micros(upper, "created_until")),
    )


def _required_values(query: SessionQuery) -> list[Wanted]:
    """Return the values that a query requires; for a grant, which may have any value, None."""
    required: list[Wanted] = []
    if query.user_id is not None:
        check_text(query.user_id, "user_id")
    if query.status is not None:
        check_change("status", "", query.status, removed=False)
    if query.session_type is not None:
        check_change("session_type", "", query.session_type, removed=False)
        required.append(("session_type", "", query.session_type))
    if query.tag is not None:
        required.append(("tag", check_text(query.tag, "tag"), True))
    if query.granted_to is not None:
        required.append(("grant", check_text(query.granted_to, "granted_to"), None))
    if not isinstance(query.attributes, Mapping):
        raise InvalidInput(f"attributes must be an object of name to value, not {type(query.attributes).__name__}.")
    for name, value in query.attributes.items():
        check_text(name, "The name of an attribute")
        canonical(value, f"attribute {name}")  # refuse a value that is not JSON
        required.append(("attribute", name, value))
    return required

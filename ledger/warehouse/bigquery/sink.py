"""BigQuery as the sink of a relay: one write stream per relay, and fencing tokens that exclude older relays."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa

from ledger.clock import Clock, utc_now
from ledger.errors import ConfigurationError, CorruptEvent, RowsRefused, StoreUnavailable, StreamEnded, ValueTooLarge
from ledger.model.ids import created_at_of
from ledger.outbox.contract import Batch, Recovery, RelayCheckpoint
from ledger.outbox.rows import SEQ, Row, RowKey
from ledger.warehouse import catalog
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery import streams
from ledger.warehouse.bigquery.appends import REQUEST_BYTES, requests_of
from ledger.warehouse.bigquery.errors import OutcomeLost
from ledger.warehouse.bigquery.expiration import PartitionExpiration
from ledger.warehouse.bigquery.locks import require_lock
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.existing_rows import existing_rows
from ledger.warehouse.schema import missing_columns

#: The tables that a relay writes to or locks.
_TABLES = ("session_events", "session_index", "session_locks", "relay_leases")


class PackedBatch(NamedTuple):
    """The content of one request to BigQuery.

    Attributes:
        events: Rows of ``session_events``.
        new_sessions: Rows of ``session_index`` for sessions that begin in ``events``; None if none are needed.
    """

    events: pa.RecordBatch
    new_sessions: pa.RecordBatch | None


@dataclass(frozen=True, slots=True)
class _SinkState:
    """The sink state that the store saves between batches.

    Attributes:
        fence: The relay's fencing token; 0 if no relay has recovered yet.
        stream: The relay's write stream.
        rows: Number of rows that the stream has acknowledged, which is the offset of the next batch.
        made: Creation time of the table ``session_events``, in milliseconds since 1970; 0 if unknown. A different time
            means that the table was dropped and created again.
    """

    fence: int = 0
    stream: str = ""
    rows: int = 0
    made: int = 0

    @classmethod
    def of_text(cls, text: str) -> _SinkState:
        """Parse the result of ``text()``. If it is empty or malformed, return an empty state."""
        try:
            saved = json.loads(text) if text else {}
            state = cls(int(saved["fence"]), str(saved["stream"]), int(saved["rows"]), int(saved.get("made", 0)))
        except (ValueError, TypeError, KeyError):
            return cls()
        return state if state.stream else cls()

    def text(self) -> str:
        return json.dumps(asdict(self))


class _WarehouseState(NamedTuple):
    """The findings of a recovery about the warehouse.

    Attributes:
        fence: The fencing token that this recovery took.
        stream: The stream that the previous relay registered; an empty string if there is none.
        row_count: Number of rows in the stream that the store saved; None if BigQuery has removed that stream.
        made: Creation time of the table ``session_events``, in milliseconds since 1970.
    """

    fence: int
    stream: str
    row_count: int | None
    made: int


class BigQuerySink:
    """A sink that writes each row of a store exactly once. It relies on three guarantees of BigQuery:

    - A write stream accepts a request at its offset or not at all. If the response to a request is lost, the request is
      sent again at the same offset.
    - A finalized stream accepts no more rows and reports its row count. When a relay starts, it finalizes the stream
      of the previous relay, and so learns which rows arrived.
    - If two transactions update one table at the same time, one of them is aborted. Each relay that starts can
      therefore take a fencing token above the tokens of all earlier relays of the store.

    The table ``relay_leases`` holds each store's newest token. Only the relay that took it can register a stream
    there. If the registered stream is not the one that the store saved, the warehouse may have rows that the store does
    not remember sending.

    Args:
        warehouse: The dataset to fill, which must exist; ``recover`` creates the tables that it lacks.
        owns: True if ``close`` also closes the warehouse.
        clock: Source of the time at which days expire.

    Raises:
        ConfigurationError: The dataset's transport is not the Storage Write API.
    """

    batch_rows = 10_000
    batch_bytes = 8_500_000

    def __init__(self, warehouse: BigQueryWarehouse, *, owns: bool = False, clock: Clock = utc_now) -> None:
        if warehouse.dataset.transport == "insertall":
            raise ConfigurationError(
                f"{warehouse.dataset.url} uses insertAll, which cannot confirm whether rows have arrived; a relay "
                "needs the Storage Write API. Remove transport=insertall from the URL."
            )
        self._warehouse = warehouse
        self._owns = owns
        self._clock = clock
        self._expiration = PartitionExpiration()  # as found by the latest ``recover``
        self._stream: streams.WriteStream | None = None
        self._stream_lock = threading.RLock()
        self._store_id = ""
        self._own_stream = ""  # the stream that this sink created last
        self._refusals = 0  # consecutive refusals of the first request on a new stream

    @property
    def url(self) -> str:
        """The URL under which the store knows the warehouse: project and dataset, without options."""
        return f"bigquery://{self._warehouse.clients.project}/{self._warehouse.dataset.name}"

    def __enter__(self) -> BigQuerySink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: no lock is held while batches are sent."""

    def is_consistent(self, store_id: str, checkpoint: RelayCheckpoint) -> bool:
        """Always return True, because BigQuery offers no cheap way to check."""
        return True

    def recover(self, store_id: str, checkpoint: RelayCheckpoint) -> Recovery:
        """Fence off other relays of this store and find out whether the batch in flight has arrived; see ``Sink``."""
        self._close_stream()
        remembered = _SinkState.of_text(checkpoint.sink_state)
        made = self._prepare_tables()
        fence, registered = self._take_fence(store_id)
        row_counts = {name: streams.finalize(self._warehouse, name) for name in {remembered.stream, registered} - {""}}
        actual = _WarehouseState(fence, registered, row_counts.get(remembered.stream), made)
        arrived, in_doubt_after = _compare(checkpoint, remembered, actual)
        self._store_id = store_id
        self._own_stream = streams.create(self._warehouse, "session_events")
        if not self._register_stream(fence, self._own_stream):
            raise StreamEnded("Another relay of this store started at the same time; the relay must recover.")
        return Recovery(_SinkState(fence, self._own_stream, 0, made).text(), arrived, in_doubt_after)

    def pack(self, rows: Sequence[Row]) -> tuple[int, PackedBatch]:
        """Encode the leading rows that fit one request; see ``Sink.pack``."""
        try:
            whole = record_batch([row[1:] for row in rows])
        except (ValueError, TypeError, pa.ArrowException) as error:
            raise CorruptEvent(
                f"Rows {rows[0][SEQ]} to {rows[-1][SEQ]} of the store have wrong columns or types: {error}"
            ) from error
        events = next(requests_of(whole, REQUEST_BYTES))
        return events.num_rows, PackedBatch(events, _new_sessions_in(events))

    def send(self, sink_state: str, batch: Batch, content: PackedBatch) -> str:
        """Add a batch and return the new sink state. Transient errors are retried; see ``Sink.send``."""
        state = _SinkState.of_text(sink_state)
        self._check_days(content.events)
        if content.new_sessions is not None:
            self._index_sessions(content.new_sessions)
        try:
            self._open_stream(state.stream).append(content.events, state.rows)
        except streams.RequestRefused as refused:
            raise self._classify_refusal(state, refused) from refused
        except ValueTooLarge as error:
            raise RowsRefused(str(error), certain=_is_one_event(content.events)) from error
        self._refusals = 0
        return replace(state, rows=state.rows + batch.rows).text()

    def existing(self, rows: Sequence[Row]) -> set[RowKey]:
        """Return the keys of the given rows that the dataset already has, no matter which relay sent them."""
        return existing_rows(self._warehouse, rows)

    def close(self) -> None:
        """Close the stream, and the warehouse if the sink owns it; a second call does nothing."""
        self._close_stream()
        if self._owns:
            self._warehouse.close()

    def _prepare_tables(self) -> int:
        """Create missing tables and columns; return the creation time of ``session_events``, as in ``_SinkState``.

        Raises:
            ConfigurationError: The dataset does not exist.
        """
        tables = {name: self._warehouse.table(name) for name in _TABLES}
        if not all(_has_all_columns(name, table) for name, table in tables.items()):
            self._warehouse.add_missing()
            tables["session_events"] = self._warehouse.table("session_events")
        events = tables["session_events"]
        self._expiration = PartitionExpiration.of_table(events)
        if events is None:
            raise StoreUnavailable(f"The table session_events of {self.url} was dropped concurrently; retry.")
        return 0 if events.created is None else round(events.created.timestamp() * 1000)

    def _check_days(self, events: pa.RecordBatch) -> None:
        """Raise RowsRefused if a batch has rows of days that have expired: BigQuery would drop them at once."""
        if self._expiration.kept is None:
            return
        now = self._clock()
        sessions = zip(events.column("session_id").to_pylist(), events.column("created_at").to_pylist(), strict=True)
        refusals = (self._expiration.refusal(*session, now) for session in sessions)
        reasons = {index: reason for index, reason in enumerate(refusals) if reason is not None}
        if reasons:
            raise RowsRefused(next(iter(reasons.values())), reasons, expired=True)

    def _take_fence(self, store_id: str) -> tuple[int, str]:
        """Take the next fencing token. Return the token and the name of the previous relay's stream (empty if none)."""
        parameters = {"store_id": store_id, "holder": uuid.uuid4().hex}

        def take() -> tuple[Any, ...]:
            return self._warehouse.ask("take_fence", catalog.query("take_fence"), parameters).rows[0]

        answer = take()
        if answer[0] == "unlocked":  # the lock row is created last, and an earlier run was interrupted before it
            self._warehouse.add_missing()
            answer = take()
        outcome, fence, stream = answer
        require_lock(outcome)
        return int(fence), str(stream)

    def _register_stream(self, fence: int, stream: str) -> bool:
        """Register the stream if ``fence`` is the newest fencing token of the store; return whether it is."""
        parameters = {"store_id": self._store_id, "fence": fence, "stream": stream}
        return bool(self._warehouse.ask("name_stream", catalog.query("name_stream"), parameters).rows[0][0])

    def _index_sessions(self, new_sessions: pa.RecordBatch) -> None:
        """Append rows to ``session_index``; duplicate rows do no harm."""
        try:
            self._warehouse.append("session_index", new_sessions)
        except OutcomeLost as error:
            raise StoreUnavailable(str(error)) from error

    def _classify_refusal(self, state: _SinkState, refused: StreamEnded) -> StreamEnded | RowsRefused:
        """Return the error to raise for a refusal: RowsRefused if the rows are at fault, otherwise ``refused``.

        If a newer relay has started, the stream is at fault, because the newer relay has finalized it. Otherwise the
        rows are at fault if at least two new streams in a row have refused their first request.
        """
        if state.rows or state.stream != self._own_stream:
            return refused
        self._refusals += 1
        if self._refusals < 2 or not self._register_stream(state.fence, state.stream):
            return refused
        return RowsRefused(str(refused), certain=False)

    def _open_stream(self, name: str) -> streams.WriteStream:
        if not name:
            raise StreamEnded("The checkpoint names no write stream; the relay must recover first.")
        with self._stream_lock:
            if self._stream is None or self._stream.name != name:
                self._stream = streams.WriteStream(self._warehouse, name, is_new=name == self._own_stream)
            return self._stream

    def _close_stream(self) -> None:
        with self._stream_lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def _compare(checkpoint: RelayCheckpoint, remembered: _SinkState, actual: _WarehouseState) -> tuple[bool, int | None]:
    """Compare the saved sink state with the warehouse, once all older relays are fenced off.

    Returns:
        The values of ``Recovery.arrived`` and ``Recovery.in_doubt_after``.
    """
    if not remembered.fence:
        is_first = actual.fence == 1 and checkpoint.seq == 0
        return False, None if is_first else 0
    if actual.fence <= remembered.fence or (actual.made and remembered.made and actual.made != remembered.made):
        return False, 0  # the dataset was dropped and created again
    if actual.stream != remembered.stream:
        # A relay registers its stream before it ships, so a relay of a copy of this store has shipped, or one of the
        # store that this one was copied from. If no relay took a token in between, the dataset was created again, and
        # its tokens have grown past the saved one.
        return False, checkpoint.seq if actual.fence > remembered.fence + 1 else 0
    if actual.row_count == remembered.rows:
        return False, None
    if checkpoint.batch is not None and actual.row_count == remembered.rows + checkpoint.batch.rows:
        return True, None
    # The service has removed the stream, or this store was restored from an older copy and the stream has more rows.
    return False, checkpoint.seq


def _has_all_columns(name: str, table: Any) -> bool:
    """Return True if a table exists with all columns of this release."""
    return table is not None and not missing_columns(catalog.named(name), (column.name for column in table.schema))


def _new_sessions_in(events: pa.RecordBatch) -> pa.RecordBatch | None:
    """Return the rows that a batch adds to ``session_index``; None if it adds none.

    There is one row for each session that begins in the batch, unless the session's id contains its creation time.
    """
    names = ["session_id", "created_at", "user_id"]
    firsts = {
        row["session_id"]: row
        for row in events.select([*names, "version"]).to_pylist()
        if row["version"] == 1 and created_at_of(row["session_id"]) is None
    }
    if not firsts:
        return None
    schema = events.select(names).schema
    return pa.RecordBatch.from_pylist(list(firsts.values()), schema=schema)


def _is_one_event(events: pa.RecordBatch) -> bool:
    pairs = zip(events.column("session_id").to_pylist(), events.column("event_id").to_pylist(), strict=True)
    return len(set(pairs)) == 1

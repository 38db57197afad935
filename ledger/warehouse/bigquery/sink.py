"""BigQuery as what a relay fills: one write stream of its own, and a fence that shuts out whoever shipped before."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa

from ledger.errors import ConfigurationError, CorruptEvent, RowsRefused, StoreUnavailable, StreamEnded, ValueTooLarge
from ledger.model.ids import created_at_of
from ledger.outbox.contract import SEQ, Batch, Recovery, RelayCheckpoint, Row, RowKey
from ledger.warehouse import catalog
from ledger.warehouse.arrow_rows import record_batch
from ledger.warehouse.bigquery import streams
from ledger.warehouse.bigquery.appends import REQUEST_BYTES, requests_of
from ledger.warehouse.bigquery.clients import ONCE
from ledger.warehouse.bigquery.errors import OutcomeLost, translate
from ledger.warehouse.bigquery.locks import require_lock
from ledger.warehouse.bigquery.warehouse import BigQueryWarehouse
from ledger.warehouse.existing_rows import existing_rows

#: The tables that a relay writes to, or locks.
_TABLES = ("session_events", "session_index", "session_locks", "relay_leases")


class Packed(NamedTuple):
    """A request: rows of ``session_events``, and those of ``session_index`` for sessions that begin among them."""

    events: pa.RecordBatch
    begun: pa.RecordBatch | None


@dataclass(frozen=True, slots=True)
class _State:
    """What the store remembers for the sink.

    Attributes:
        fence: What the relay took when it began; 0 where none did.
        stream: Where its rows go.
        rows: How many of them were acknowledged.
        made: When the table of events was made, in milliseconds since 1970: another time tells of another table.
    """

    fence: int = 0
    stream: str = ""
    rows: int = 0
    made: int = 0

    @classmethod
    def of(cls, text: str) -> _State:
        """What was remembered; nothing, where that cannot be read."""
        try:
            given = json.loads(text) if text else {}
            found = cls(int(given["fence"]), str(given["stream"]), int(given["rows"]), int(given.get("made", 0)))
        except (ValueError, TypeError, KeyError):
            return cls()
        return found if found.stream else cls()

    def text(self) -> str:
        return json.dumps(asdict(self))


class BigQuerySink:
    """Takes a store's rows, each once. The whole of it rests on three things that BigQuery promises.

    A write stream takes a request at the offset where it ends or not at all; so a request whose answer was lost is sent
    again at its offset. A finalized stream takes nothing more and says how many rows it has; so whoever begins ends the
    stream before, and knows what arrived. And of two transactions that update one table one is aborted; so the fence in
    ``relay_leases`` goes up with each beginning, and only who holds the last may name a stream; another stream's name
    there tells of rows that this store does not remember sending.

    Args:
        warehouse: The dataset; it is made where it is missing.
        owns: Whether ``close`` closes the warehouse too.

    Raises:
        ConfigurationError: The dataset is written to without the Storage Write API.
    """

    batch_rows = 10_000
    batch_bytes = 8_500_000

    def __init__(self, warehouse: BigQueryWarehouse, *, owns: bool = False) -> None:
        if warehouse.dataset.transport == "insertall":
            raise ConfigurationError(
                f"{warehouse.dataset.url} is written to by insertAll, which cannot tell whether rows have arrived; the "
                "relay needs the Storage Write API. Leave transport=insertall out of the URL."
            )
        self._warehouse = warehouse
        self._owns = owns
        self._stream: streams.WriteStream | None = None
        self._holding = threading.Lock()
        self._store_id = ""
        self._created = ""  # the stream that was made for it last
        self._refusals = 0  # of the first request on a new stream, in a row

    @property
    def url(self) -> str:
        """What the warehouse is called in the store: its project and dataset, whatever the options."""
        return f"bigquery://{self._warehouse.clients.project}/{self._warehouse.dataset.name}"

    def __enter__(self) -> BigQuerySink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held that others wait for."""

    def is_consistent(self, store_id: str, checkpoint: RelayCheckpoint) -> bool:
        """True: nothing is cheap to see here."""
        return True

    def recover(self, store_id: str, checkpoint: RelayCheckpoint) -> Recovery:
        """Shut out whoever shipped before, and find out what became of the batch under way; see ``Sink.recover``."""
        self._let_go()
        before = _State.of(checkpoint.sink_state)
        made, is_new = self._prepare()
        fence, named = self._take_fence(store_id)
        counts = {name: streams.finalize(self._warehouse, name) for name in {before.stream, named} - {""}}
        arrived, in_doubt_after = _compare_states(checkpoint, before, fence, named, made, counts.get(before.stream))
        self._store_id = store_id
        self._created = streams.create(self._warehouse, "session_events", is_new=is_new)
        if not self._holds(fence, self._created):
            raise StreamEnded("Another relay began to ship this store's rows at the same time.")
        return Recovery(_State(fence, self._created, 0, made).text(), arrived, in_doubt_after)

    def pack(self, rows: Sequence[Row]) -> tuple[int, Packed]:
        """The leading rows that fit a request; see ``Sink.pack``."""
        try:
            whole = record_batch([row[1:] for row in rows])
        except (ValueError, TypeError, pa.ArrowException) as error:
            raise CorruptEvent(
                f"Rows {rows[0][SEQ]} to {rows[-1][SEQ]} of the store are not as recorded: {error}"
            ) from error
        events = next(requests_of(whole, REQUEST_BYTES))
        return events.num_rows, Packed(events, _begun_in(events))

    def send(self, sink_state: str, batch: Batch, content: Packed) -> str:
        """Add a batch; see ``Sink.send``. What is refused for now is tried again for as long as the warehouse does."""
        at = _State.of(sink_state)
        if content.begun is not None:
            self._index(content.begun)
        try:
            self._stream_of(at.stream).append(content.events, at.rows)
        except streams.RequestRefused as refused:
            raise self._about_rows(at, refused) from refused
        except ValueTooLarge as error:
            raise RowsRefused(str(error), certain=_is_one_event(content.events)) from error
        self._refusals = 0
        return replace(at, rows=at.rows + batch.rows).text()

    def existing(self, rows: Sequence[Row]) -> set[RowKey]:
        """Which of these rows are in the dataset, whoever brought them."""
        return existing_rows(self._warehouse, rows)

    def close(self) -> None:
        """Close the connection, and the warehouse where it is the sink's own; calling it again does nothing."""
        self._let_go()
        if self._owns:
            self._warehouse.close()

    def _prepare(self) -> tuple[int, bool]:
        """Make sure of the tables and their columns; when the table of events was made, and whether it was just now."""
        tables = {name: self._table(name) for name in _TABLES}
        is_new = not all(_is_fit(name, table) for name, table in tables.items())
        if is_new:
            self._warehouse.create()
            tables["session_events"] = self._table("session_events")
        events = tables["session_events"]
        if events is None:
            raise StoreUnavailable(f"The table session_events of {self.url} was dropped a moment ago.")
        return 0 if events.created is None else round(events.created.timestamp() * 1000), is_new

    def _table(self, name: str) -> Any:
        """A table as BigQuery describes it; None where it is missing, or its dataset."""
        from google.api_core.exceptions import NotFound

        clients = self._warehouse.clients
        path = f"{clients.project}.{self._warehouse.dataset.name}.{name}"

        def once() -> Any:
            try:
                return clients.rest.get_table(path, retry=ONCE)
            except NotFound:
                return None
            except Exception as error:
                raise translate(error, f"Looking at {name}") from error

        return streams.asked(self._warehouse, f"Looking at {name}", once)

    def _take_fence(self, store_id: str) -> tuple[int, str]:
        """The fence that is this relay's now, and the stream of the one before."""
        parameters = {"store_id": store_id, "holder": uuid.uuid4().hex}

        def take() -> tuple[Any, ...]:
            return self._warehouse.ask("take_fence", catalog.query("take_fence"), parameters).rows[0]

        found = take()
        if found[0] == "unlocked":  # the row comes last: whoever made the tables was cut off
            self._warehouse.create()
            found = take()
        outcome, fence, stream = found
        require_lock(outcome)
        return int(fence), str(stream)

    def _holds(self, fence: int, stream: str) -> bool:
        """Name the stream of a relay, where no other has begun since; whether that is so."""
        parameters = {"store_id": self._store_id, "fence": fence, "stream": stream}
        return bool(self._warehouse.ask("name_stream", catalog.query("name_stream"), parameters).rows[0][0])

    def _index(self, begun: pa.RecordBatch) -> None:
        """Say when sessions began; a row that is there twice says the same."""
        try:
            self._warehouse.append("session_index", begun)
        except OutcomeLost as error:
            raise StoreUnavailable(str(error)) from error

    def _about_rows(self, at: _State, refused: StreamEnded) -> StreamEnded | RowsRefused:
        """What a refusal without a named row means: the rows, where it comes again on a new stream that is ours."""
        if at.rows or at.stream != self._created:
            return refused
        self._refusals += 1
        if self._refusals < 2 or not self._holds(at.fence, at.stream):
            return refused
        return RowsRefused(str(refused), certain=False)

    def _stream_of(self, name: str) -> streams.WriteStream:
        if not name:
            raise StreamEnded("No relay has begun here.")
        with self._holding:
            if self._stream is None or self._stream.name != name:
                self._stream = streams.WriteStream(self._warehouse, name)
            return self._stream

    def _let_go(self) -> None:
        with self._holding:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def _compare_states(
    checkpoint: RelayCheckpoint, before: _State, fence: int, named: str, made: int, count: int | None
) -> tuple[bool, int | None]:
    """Whether the batch under way has arrived, and after which ``seq`` rows may be there that are not remembered.

    Args:
        before: What the store remembers.
        fence, named: What the warehouse says: the fence that was taken now, and the stream of the one before.
        made: When the table of events was made.
        count: The rows of the stream that the store remembers; None where that is not known.
    """
    if not before.fence:
        is_first = fence == 1 and checkpoint.seq == 0
        return False, None if is_first else 0
    if fence <= before.fence or (made and before.made and made != before.made):
        return False, 0  # the warehouse forgot: it was dropped and made anew
    if named != before.stream:
        # Each relay names its stream before it ships: a copy of this store did, or what was there when it was copied.
        # Where none took the fence meanwhile, the warehouse forgot, and has come as far again.
        return False, checkpoint.seq if fence > before.fence + 1 else 0
    if count == before.rows:
        return False, None
    if checkpoint.batch is not None and count == before.rows + checkpoint.batch.rows:
        return True, None
    # The stream is forgotten, or has rows that this store does not remember, being restored from an older copy.
    return False, checkpoint.seq


def _is_fit(name: str, table: Any) -> bool:
    """Whether a table is there, with the columns that this release has."""
    from ledger.warehouse.bigquery.tables import columns_of

    there = set() if table is None else {column.name for column in table.schema}
    return there.issuperset(column.name for column in columns_of(catalog.named(name)))


def _begun_in(events: pa.RecordBatch) -> pa.RecordBatch | None:
    """Rows of ``session_index`` for the sessions that begin in a batch and whose ids do not say when."""
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

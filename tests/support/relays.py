"""A warehouse in memory for tests of the relay: streams with offsets, a fence, and a hook at every step."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ledger.errors import RowsRefused, StreamEnded
from ledger.outbox.contract import Batch, Recovery, RelayCheckpoint
from ledger.outbox.rows import Row, RowKey, row_key


class Streams:
    """What the warehouse keeps: its rows, how many each stream took, which are over, and who may write."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.taken: dict[str, int] = {}
        self.over: set[str] = set()
        self.fence = 0
        self.current = ""


class StreamsSink:
    """A sink as BigQuery's is one, over ``Streams``.

    Args:
        streams: Shared by all who ship there.
        step: Told of every step by name: ``begin``, ``begun``, ``send``, ``sent``; may raise.
        unfit: Which rows are refused, and whether the refusal names them.
        named: Whether a refusal says which rows.
        batch_rows: The most rows in a batch.
    """

    url = "memory://warehouse"
    batch_bytes = 1_000_000

    def __init__(
        self,
        streams: Streams,
        step: Callable[[str], None] = lambda name: None,
        *,
        unfit: Callable[[Row], bool] = lambda row: False,
        named: bool = True,
        certain: bool = True,
        batch_rows: int = 4,
    ) -> None:
        self.streams = streams
        self.batch_rows = batch_rows
        self.sent: list[list[Row]] = []
        self.asked = 0
        self._step = step
        self._unfit = unfit
        self._named = named
        self._certain = certain

    def __enter__(self) -> StreamsSink:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def is_consistent(self, store_id: str, checkpoint: RelayCheckpoint) -> bool:
        return True

    def recover(self, store_id: str, checkpoint: RelayCheckpoint) -> Recovery:
        self._step("begin")
        streams = self.streams
        remembered = json.loads(checkpoint.sink_state or '{"fence": 0, "stream": "", "rows": 0}')
        streams.fence += 1
        streams.over |= {remembered["stream"], streams.current}
        streams.current = f"stream {streams.fence}"
        place = json.dumps({"fence": streams.fence, "stream": streams.current, "rows": 0})
        self._step("begun")
        if streams.fence != remembered["fence"] + 1:
            return Recovery(place, in_doubt_after=checkpoint.seq if streams.fence > remembered["fence"] else 0)
        if checkpoint.batch is None:
            return Recovery(place)
        more = streams.taken.get(remembered["stream"], 0) - remembered["rows"]
        assert more in (0, checkpoint.batch.rows)
        return Recovery(place, arrived=more > 0)

    def pack(self, rows: Sequence[Row]) -> tuple[int, Any]:
        return len(rows), list(rows)

    def send(self, place: str, batch: Batch, content: Any) -> str:
        self._step("send")
        streams, known = self.streams, json.loads(place)
        if known["stream"] in streams.over:
            raise StreamEnded("The stream is over.")
        if bad := {index: "unfit" for index, row in enumerate(content) if self._unfit(row)}:
            raise RowsRefused("Rows are unfit.", bad if self._named else None, certain=self._certain)
        taken = streams.taken.get(known["stream"], 0)
        assert known["rows"] in (taken, taken - batch.rows), "an offset that a stream cannot have"
        if known["rows"] == taken:
            streams.rows += content
            self.sent.append(content)
            streams.taken[known["stream"]] = taken + batch.rows
        self._step("sent")
        return json.dumps({**known, "rows": known["rows"] + batch.rows})

    def existing(self, rows: Sequence[Row]) -> Collection[RowKey]:
        self.asked += len(rows)
        return {row_key(row) for row in self.streams.rows} & {row_key(row) for row in rows}

    def close(self) -> None:
        self._step("close")

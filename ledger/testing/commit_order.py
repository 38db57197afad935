"""The contract of rows_after and last_seq: rows in commit order. Capability: ``commit_order``."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from ledger import Change, InvalidInput
from ledger.outbox.columns import NAMES
from ledger.outbox.rows import SEQ, Row, index_of
from ledger.stores.base import EventStore
from ledger.testing.harness import Harness, begin, refusals
from ledger.testing.streams import event, event_id

_VERSION = index_of("version")
_SAYS = itemgetter(index_of("session_id"), _VERSION, index_of("field"))


class CommitOrderContract(Harness):
    """Tests that each row is returned once, in commit order, and that no event is split.

    Without the capability, ``rows_after`` and ``last_seq`` raise CapabilityMissing.
    """

    def test_rows_come_in_the_order_of_their_commits_each_once(self, store: EventStore) -> None:
        if self.lacks("commit_order", lambda: store.rows_after(0, 100)):
            return
        begin(store, "a")
        begin(store, "b")
        store.append("a", event(1, Change("title", value="x"), Change("tag", "t", True)))
        rows = store.rows_after(0, 100)
        assert list(map(_SAYS, rows)) == [("a", 1, "status"), ("b", 1, "status"), ("a", 2, "title"), ("a", 2, "tag")]
        assert [row[SEQ] for row in rows] == sorted({row[SEQ] for row in rows})
        assert store.rows_after(rows[1][SEQ], 100) == rows[2:]
        assert list(store.rows_after(rows[-1][SEQ], 100)) == []

    def test_rows_never_split_an_event(self, store: EventStore) -> None:
        if self.lacks("commit_order", lambda: store.rows_after(0, 1)):
            return
        begin(store)
        most = self.capabilities.max_changes
        sizes = [most * 2 // 5, most * 7 // 10, most, 1, most - 1]
        for number, size in enumerate(sizes, 1):
            store.append("s", event(number, *(Change("context", str(key), number) for key in range(size))))
        found: list[Row] = []
        while rows := store.rows_after(found[-1][SEQ] if found else 0, 1):
            versions = [row[_VERSION] for row in rows]
            for version in (versions[0], versions[-1]):
                assert versions.count(version) == [1, *sizes][version - 1]
            found += rows
        assert len(found) == 1 + sum(sizes)

    def test_a_row_has_the_columns_of_the_table(self, store: EventStore) -> None:
        begin(store, "s", Change("strategy", value={"b": 1, "a": None}))
        if self.lacks("commit_order", lambda: store.rows_after(0, 10)):
            return
        (row,) = store.rows_after(0, 10)
        said = dict(zip(("seq", *NAMES), row, strict=True))
        assert {name: said[name] for name in ("session_id", "version", "event_id", "event_type", "user_id")} == {
            "session_id": "s",
            "version": 1,
            "event_id": event_id(0),
            "event_type": "test.made",
            "user_id": "ada",
        }
        assert {name: said[name] for name in ("field", "key", "value", "removed")} == {
            "field": "strategy",
            "key": "",
            "value": '{"a":null,"b":1}',
            "removed": 0,
        }

    def test_rows_follow_a_row(self, store: EventStore) -> None:
        if self.lacks("commit_order", lambda: store.rows_after(0, 10)):
            return
        bad: list[Any] = [-1, "0", 2**63, None]
        refusals(InvalidInput, bad, lambda it: store.rows_after(it, 10), "seq")

    def test_the_last_seq_is_that_of_the_last_row(self, store: EventStore) -> None:
        if self.lacks("commit_order", store.last_seq):
            return
        assert store.last_seq() == 0
        begin(store, "a")
        begin(store, "b", Change("title", value="x"), Change("tag", "t", True))
        assert store.last_seq() == store.rows_after(0, 10)[-1][SEQ]

"""The contract of the outbox: rows as a relay reads them. Capabilities: ``outbox``, ``archive`` and ``warehouse``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ledger import Change, StoreRejected
from ledger.stores.base import archiving_store, outbox_store, warehouse_store
from ledger.testing.harness import Harness, begin

URL = "duckdb:////never/opened.duckdb"


class OutboxContract(Harness):
    """Tests of ``OutboxStore``, ``ArchivingStore`` and ``WarehouseStore``.

    In a store without a protocol's capability, the protocol's methods are absent or raise CapabilityMissing.
    """

    def test_an_outbox_has_the_rows_of_the_store_and_what_a_warehouse_refused(self, store: Any) -> None:
        begin(store, "a")
        begin(store, "b", Change("title", value="x"), Change("tag", "t", True))
        if self.lacks("outbox", lambda: store.outbox(URL)):
            assert outbox_store(store) is None
            return
        assert outbox_store(store) is not None
        assert store.path.is_absolute()
        assert store.path.is_file()
        outbox = store.outbox(URL)
        assert (outbox.warehouse, outbox.store_id, outbox.last_seq()) == (URL, store.store_id, store.last_seq())
        rows = outbox.rows_after(0, 10, max_bytes=1_000_000)
        assert list(rows) == list(store.rows_after(0, 10))
        assert (outbox.status().waiting_rows, outbox.refused()) == (3, [])
        checkpoint = outbox.acquire("here/1/x", 60)
        refused = {row[0]: "unfit" for row in rows[1:]}
        outbox.save(replace(checkpoint, seq=rows[-1][0]), shipped=1, dead_letters=refused)
        dead_letters = [(letter.session_id, letter.version, letter.rows, letter.reason) for letter in outbox.refused()]
        assert dead_letters == [("b", 1, 2, "unfit")]
        assert (outbox.status().waiting_rows, store.outbox(f"{URL}2").refused()) == (0, [])
        if self.capabilities.archive:
            store.check_shippable("a")
            with pytest.raises(StoreRejected, match="refused"):
                store.check_shippable("b")
        (letter,) = outbox.refused()
        assert (outbox.dismiss(letter.event_id), outbox.dismiss("nowhere")) == (True, False)
        assert (outbox.status().refused_events, outbox.status().dismissed_events) == (0, 1)
        if self.capabilities.archive:
            with pytest.raises(StoreRejected, match="refused"):
                store.check_shippable("b")
        assert outbox.redrive_event() == 0
        assert outbox.redrive_event(letter.event_id) == 2
        assert not outbox.dismiss(letter.event_id)
        assert [row[0] for row in outbox.rows_to_redrive(10, max_bytes=1_000_000)] == sorted(refused)

    def test_a_session_that_no_warehouse_refused_is_shippable(self, store: Any) -> None:
        begin(store)
        if self.lacks("archive", lambda: store.check_shippable("s")):
            assert archiving_store(store) is None
            return
        assert archiving_store(store) is not None
        store.check_shippable("s")
        store.check_shippable("nowhere")

    def test_a_store_in_a_warehouse_shows_it(self, store: Any) -> None:
        if self.lacks("warehouse", lambda: store.warehouse):
            assert warehouse_store(store) is None
            return
        assert warehouse_store(store) is not None
        assert store.warehouse.query("SELECT 1 AS one").rows == [(1,)]

"""The batch in flight, as the store's file holds it: its JSON is that of the first release."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from ledger.outbox.contract import Batch
from ledger.stores.sqlite.store import SqliteStore

URL = "memory://warehouse"
FIRST_RELEASE = {"last": 7, "rows": 2, "digest": "d", "again": True}


@pytest.mark.parametrize(
    ("recorded", "redrive"),
    [(FIRST_RELEASE, True), ({**FIRST_RELEASE, "again": False}, False), ({"last": 7, "rows": 2, "digest": "d"}, False)],
)
def test_checkpoint_has_the_batch_that_an_earlier_release_recorded(tmp_path: Path, recorded, redrive) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "l.db")) as store:
        outbox = store.outbox(URL)
        outbox.acquire("here/1/x", 60)
        store._run(
            lambda connection: connection.execute("UPDATE relays SET batch = ?", (json.dumps(recorded),)).rowcount
        )
        assert outbox.checkpoint().batch == Batch(7, 2, "d", redrive=redrive)


def test_save_records_a_batch_as_the_first_release_reads_it(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "l.db")) as store:
        outbox = store.outbox(URL)
        held = outbox.acquire("here/1/x", 60)
        outbox.save(type(held)(held.epoch, batch=Batch(7, 2, "d", redrive=True)))
        (text,) = store._run(lambda connection: connection.execute("SELECT batch FROM relays").fetchone())
        assert json.loads(text) == FIRST_RELEASE

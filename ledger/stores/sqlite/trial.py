"""The part of ``SqliteStore`` that tries an append, for ``ledger doctor``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger.clock import Clock, NewId, new_id, new_salt
from ledger.errors import StoreRejected
from ledger.model.events import SCHEMA_VERSION, Change, NewEvent, prepare
from ledger.stores.sqlite import write


class SqliteTrial:
    """The part of ``SqliteStore`` that tries an append."""

    path: Path
    store_id: str
    _max_bytes: int | None
    _clock: Clock
    _ids: NewId
    _run: Callable[[Callable[[sqlite3.Connection], Any]], Any]

    def try_append(self) -> None:
        """Append an event that creates a session, under the locks of a real append, and roll it back.

        Raises:
            StoreRejected, StoreUnavailable: An append would fail too.
        """
        now = self._clock()
        prepared = prepare(NewEvent("session.created", [Change("title", value="Trial")], new_id(now), user_id="trial"))
        rolled_back = StoreRejected("The trial append was rolled back.")

        def work(connection: sqlite3.Connection) -> None:
            write.check_room(connection, self._max_bytes, self.path)
            write.append(
                connection,
                {},
                self._ids(now),
                prepared,
                [new_salt()],
                expected_version=0,
                now=now,
                schema_version=SCHEMA_VERSION,
                store_id=self.store_id,
            )
            raise rolled_back

        try:
            self._run(work)
        except StoreRejected as error:
            if error is not rolled_back:
                raise

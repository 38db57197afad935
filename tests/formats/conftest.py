"""A ledger that a table is imported into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import SessionLedger
from support.sessions_table import clock


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SessionLedger]:
    with SessionLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}", clock=clock) as opened:
        yield opened

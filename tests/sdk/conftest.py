"""Fixtures of the SDK's tests: a ledger in a file, a clock that stands still, and counted ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import SessionLedger
from ledger.testing import CountedIds, SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: SetClock) -> Iterator[SessionLedger]:
    """What is recorded need not outlive a power cut: the file is written to without waiting for the disk."""
    url = f"sqlite:///{tmp_path}/l.db?synchronous=NORMAL"
    with SessionLedger.open(url, clock=clock, ids=CountedIds()) as opened:
        yield opened

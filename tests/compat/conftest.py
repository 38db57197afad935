"""Fixtures of the drop-in modules: a ledger whose clock stands still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import SessionLedger
from ledger.compat.analysis_sessions import SessionStore
from ledger.testing import SetClock
from support.analysis import store_over


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def ledger(url: str, clock: SetClock) -> Iterator[SessionLedger]:
    with SessionLedger(url, clock=clock) as opened:
        yield opened


@pytest.fixture
def session_store(ledger: SessionLedger, clock: SetClock) -> SessionStore:
    return store_over(ledger, clock)

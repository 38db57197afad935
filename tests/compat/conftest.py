"""Fixtures of the drop-in modules: a ledger whose clock stands still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ledger import SessionLedger
from ledger.compat.analysis_sessions import SessionStore
from ledger.compat.conversations import ConversationService
from ledger.testing import SetClock
from support.analysis import store_over
from support.conversations import Lossy

if TYPE_CHECKING:
    from sqlalchemy import Engine


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


# Conversations


@pytest.fixture
def store(ledger: SessionLedger) -> Lossy:
    lossy: Any = Lossy(ledger.store)
    ledger.store = lossy
    return lossy


@pytest.fixture
def service(ledger: SessionLedger, store: Lossy, clock: SetClock) -> ConversationService:
    return ConversationService(ledger, clock=clock)


@pytest.fixture
def ada() -> Any:
    return SimpleNamespace(id=7, name="Ada")


# Older stores


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    from support.older_stores import postgres

    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    from support.older_stores import engine_of

    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'older.db'}" if sqlite else request.getfixturevalue("postgres_url")
    with engine_of(url) as engine:
        yield engine


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    from support.older_stores import engine_of

    with engine_of(f"sqlite:///{tmp_path / 'older.db'}") as engine:
        yield engine

"""Fixtures of the command line: a ledger of its own, and where wanted a clock that stands still and counted ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.sessions import SessionLedger
from shell import Shell
from streams import CountedIds, SetClock


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Every ledger that commands open has this clock, and ids that can be told in advance."""
    clock, ids = SetClock(), CountedIds()
    opening: Callable[..., SessionLedger] = SessionLedger.open

    def open_still(url: str | None = None, *, create: bool = True) -> SessionLedger:
        return opening(url, create=create, clock=clock, ids=ids)

    monkeypatch.setattr(SessionLedger, "open", open_still)
    return clock


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A command line whose ledger does not exist yet."""
    return Shell(tmp_path / "ledger.db")

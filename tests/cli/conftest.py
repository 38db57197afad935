"""Fixtures of the command line: a ledger of its own, and where wanted a clock that stands still and counted ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ledger.sdk.ledger import SessionLedger
from ledger.testing import CountedIds, SetClock
from support.bigquery_commands import closed_port, created, emulator_settings, nobody, place, there

__all__ = ["closed_port", "created", "emulator_settings", "nobody", "place", "there"]


@pytest.fixture
def stand_still(monkeypatch: pytest.MonkeyPatch) -> Callable[[], SetClock]:
    """Gives every ledger that commands open from then on one clock, and ids that can be told in advance."""

    def patch() -> SetClock:
        clock, ids = SetClock(), CountedIds()

        def open_still(url: str | None = None, **settings: Any) -> SessionLedger:
            return SessionLedger(url, clock=clock, ids=ids, **settings)

        monkeypatch.setattr(SessionLedger, "open", open_still)
        return clock

    return patch


@pytest.fixture
def still(stand_still: Callable[[], SetClock]) -> SetClock:
    """Every ledger that commands open has this clock, and ids that can be told in advance."""
    return stand_still()

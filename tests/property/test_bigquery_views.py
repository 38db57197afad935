"""What the SDK appends to BigQuery is what every view and function there shows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ledger import Change, SessionLedger
from ledger.testing import SetClock
from property.test_sql_agrees_with_the_fold import check_functions, check_views
from support import histories as h
from support.bigquery_stores import Datasets, environment

pytestmark = [pytest.mark.emulator, pytest.mark.slow]


def appended(ledger: SessionLedger, item: h.History) -> h.History:
    """A session to which the SDK appended what a history holds, and its events as they are recorded."""
    session_id = ledger.create_session(item.events[0].user_id, "a question")
    for event in item.events:
        changes = [
            Change(change.field, change.key, change.value, removed=change.text is None) for change in event.changes
        ]
        ledger.append(session_id, event.event_type, changes)
    return h.History(session_id, tuple(ledger.history(session_id)))


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_every_view_and_function_shows_what_was_appended(
    emulator: Any, datasets: Datasets, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(emulator).items():
        monkeypatch.setenv(name, value)
    before = SetClock()
    before.now -= timedelta(days=400)  # of every end that a history may hold

    @settings(
        max_examples=2 if strict else 4,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(items=h.histories(sessions=2 if strict else 3, events=5, rewinds=False))
    def check(items: list[h.History]) -> None:
        kind = "strict" if strict else "lenient"
        with (
            datasets.emptied("main") as place,
            SessionLedger.open(f"{place.url}?appends={kind}", clock=before, max_ttl_hours=None) as ledger,
        ):
            recorded = [appended(ledger, item) for item in items]
            check_views(ledger.store.warehouse, recorded)
            check_functions(ledger.store.warehouse, recorded)

    check()

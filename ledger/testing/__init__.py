"""The store contract: tests of the behaviour that every EventStore must have. A store's own test module runs them.

``StoreContract`` holds the tests. ``StoreMachine`` performs random operations on a store and compares it with the
reference model. The clock, ids and events that the tests use are public too. ``docs/writing-a-store.md`` shows how to
use all of them.

This package needs pytest and Hypothesis: ``pip install ".[testing]"`` in the checkout.
"""

from __future__ import annotations

import pkgutil

from ledger.extras import require_extra

require_extra("testing")
import pytest  # noqa: E402

# Before the imports below: otherwise failures would not show the compared values.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

from ledger.testing.contract import StoreContract  # noqa: E402
from ledger.testing.harness import OpenStore  # noqa: E402
from ledger.testing.machine import StoreMachine  # noqa: E402
from ledger.testing.streams import (  # noqa: E402
    START,
    CountedIds,
    SetClock,
    chained,
    changes,
    event,
    event_id,
    recorded,
    uuid7,
)

__all__ = [
    "START",
    "CountedIds",
    "OpenStore",
    "SetClock",
    "StoreContract",
    "StoreMachine",
    "chained",
    "changes",
    "event",
    "event_id",
    "recorded",
    "uuid7",
]

"""The store contract: what every EventStore does, as tests that any store's own test module can run.

``StoreContract`` holds the tests, ``StoreMachine`` compares a store with the model by random steps; what they are made
of (a clock, ids and events of tests) is here as well. ``docs/writing-a-store.md`` shows how to use them.

Needs pytest and Hypothesis: ``pip install 'session-ledger[testing]'``.
"""

from __future__ import annotations

import pkgutil

from ledger.extras import require_extra

require_extra("testing")
import pytest  # noqa: E402

# Before they are imported, or a failure would not show the values that it compared.
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

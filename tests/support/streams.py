"""Hypothesis strategies that the core's tests share: JSON values, and the events of a session."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st

from ledger import RecordedEvent
from ledger.testing import START, changes, recorded

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


@st.composite
def histories(draw: st.DrawFn, *, ties: bool = True) -> list[RecordedEvent]:
    """The events of one session in order; with ``ties``, several have one version, as unchecked writers leave them."""
    events: list[RecordedEvent] = []
    version, at = 0, START
    for number in range(draw(st.integers(0, 10))):
        if not (ties and version and draw(st.booleans())):
            version += 1
            at += timedelta(seconds=draw(st.integers(0, 2)))
        key = draw(st.none() | st.sampled_from(["job-42", "é 漢"]))
        events.append(recorded(version, number, draw(changes()), at=at, idempotency_key=key))
    return events

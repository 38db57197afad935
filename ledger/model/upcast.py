"""Upcasting: events of older schema versions are converted when they are read. Stored events are never rewritten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ledger.errors import UpcastMissing
from ledger.model.events import SCHEMA_VERSION, RecordedEvent

#: A pure function that converts an event of one schema_version to the next schema_version.
Step = Callable[[RecordedEvent], RecordedEvent]

#: The ledger's own steps, by the schema_version that each converts from. There are none, because the current
#: schema_version, 1, is the first.
STEPS: Mapping[int, Step] = {}


class Upcaster:
    """Callable that converts an event to the current schema_version, one schema_version at a time.

    Args:
        current: The schema_version to convert to.
        steps: For each older schema_version, the step that converts to the next one.
    """

    def __init__(self, current: int = SCHEMA_VERSION, steps: Mapping[int, Step] = STEPS) -> None:
        self.current = current
        self._steps = steps

    def __call__(self, event: RecordedEvent) -> RecordedEvent:
        """Return an event in the current schema_version.

        Raises:
            UpcastMissing: The event's schema_version is newer than this code, or a step is missing.
        """
        if event.schema_version == self.current:
            return event
        if event.schema_version > self.current:
            raise UpcastMissing(
                f"Session {event.session_id}, version {event.version} was written with schema {event.schema_version}; "
                f"this code knows up to {self.current}. Upgrade session-ledger."
            )
        while event.schema_version < self.current:
            step = self._steps.get(event.schema_version)
            if step is None:
                raise UpcastMissing(f"There is no step from schema {event.schema_version} to the next one.")
            event = replace(step(event), schema_version=event.schema_version + 1)
        return event

"""What a relay does as OpenTelemetry metrics and spans, where its API is installed; else nothing.

The counters count from the start of the process. What ``ledger status`` says of the store is observed when an exporter
asks for it: rows waiting, the age of the oldest, refused events, rows a second, bytes on the disk.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ledger.clock import utc_now
from ledger.errors import LedgerError
from ledger.relay.base import RelayStatus

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation

_INSTALLED = find_spec("opentelemetry") is not None and find_spec("opentelemetry.metrics") is not None
_NAME = "session-ledger"


class Telemetry:
    """The metrics and spans of one relay.

    Args:
        warehouse: Its URL, an attribute of all of them.
        status: How the relay is doing; asked when an exporter collects.
    """

    def __init__(self, warehouse: str, status: Callable[[], RelayStatus]) -> None:
        self.attributes = {"ledger.warehouse": warehouse}
        self.status = status
        self._meters = _instruments() if _INSTALLED else None
        if self._meters is not None:
            _WATCHED.add(self)

    def span(self, name: str, **attributes: Any) -> AbstractContextManager[Any]:
        """A span around a step: ``begin`` or ``send``."""
        if self._meters is None:
            return nullcontext()
        from opentelemetry import trace

        tracer = trace.get_tracer(_NAME, metadata.version(_NAME))
        return tracer.start_as_current_span(f"ledger.relay.{name}", attributes={**self.attributes, **attributes})

    def shipped(self, rows: int) -> None:
        """Count a batch that arrived."""
        if self._meters is not None:
            self._meters.rows.add(rows, self.attributes)
            self._meters.batches.add(1, self.attributes)

    def refused(self, events: int) -> None:
        """Count events that were put aside."""
        if self._meters is not None:
            self._meters.refused.add(events, self.attributes)

    def failed(self, code: str) -> None:
        """Count a failure."""
        if self._meters is not None:
            self._meters.failures.add(1, {**self.attributes, "error.type": code})

    def close(self) -> None:
        """Observe no more."""
        _WATCHED.discard(self)


@dataclass(frozen=True, slots=True)
class _Instruments:
    rows: Any
    batches: Any
    refused: Any
    failures: Any


_WATCHED: weakref.WeakSet[Telemetry] = weakref.WeakSet()


@cache
def _instruments() -> _Instruments:
    """Made once: instruments of one name count together, whoever makes them."""
    from opentelemetry import metrics

    meter = metrics.get_meter(_NAME, metadata.version(_NAME))
    gauges: dict[str, tuple[str, str, Callable[[RelayStatus, datetime], float | None]]] = {
        "waiting.rows": ("{row}", "Rows that are not in the warehouse yet", lambda it, now: it.waiting_rows),
        "waiting.age": ("s", "Age of the oldest row that waits", _age),
        "refused.events": ("{event}", "Events that the warehouse refused", lambda it, now: it.refused_events),
        "rate": ("{row}/s", "Rows shipped a second, of late", lambda it, now: it.rows_per_second),
        "disk": ("By", "What the store takes on the disk", lambda it, now: it.disk_bytes),
    }
    for name, (unit, description, value) in gauges.items():
        meter.create_observable_gauge(f"ledger.relay.{name}", [_observing(value)], unit, description)
    return _Instruments(
        rows=meter.create_counter("ledger.relay.rows", "{row}", "Rows that arrived in the warehouse"),
        batches=meter.create_counter("ledger.relay.batches", "{batch}", "Batches that arrived in the warehouse"),
        refused=meter.create_counter("ledger.relay.refused", "{event}", "Events put aside because they were refused"),
        failures=meter.create_counter("ledger.relay.failures", "{failure}", "Times that shipping stopped by an error"),
    )


def _observing(
    value: Callable[[RelayStatus, datetime], float | None],
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        from opentelemetry.metrics import Observation

        for watched in list(_WATCHED):
            try:
                found = value(watched.status(), utc_now())
            except LedgerError:  # closed meanwhile, or away: there is nothing to observe
                continue
            if found is not None:
                yield Observation(found, watched.attributes)

    return observe


def _age(status: RelayStatus, now: datetime) -> float | None:
    return None if status.waiting_since is None else (now - status.waiting_since).total_seconds()

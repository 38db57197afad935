"""OpenTelemetry metrics and spans of a relay. Nothing is recorded if OpenTelemetry's API is not installed.

Counters count what this process did. When an exporter collects metrics, gauges report the status of every open relay,
as ``ledger status`` shows it. Error messages are never exported, because those of a warehouse may quote values.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from typing import TYPE_CHECKING

from ledger import forking
from ledger.clock import Clock, utc_now
from ledger.errors import LedgerError, MissingExtra
from ledger.extras import require_extra
from ledger.outbox.contract import Outbox, RelayStatus

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import TracerProvider

_NAME = "session-ledger"
_Value = Callable[[RelayStatus, datetime], float | None]


def _since(then: datetime | None, now: datetime) -> float | None:
    return None if then is None else max(0.0, (now - then).total_seconds())


def _oldest(status: RelayStatus, now: datetime) -> float:
    """Return the age of the oldest waiting row; 0 if no row waits, so that a chart shows when a backlog ends."""
    return _since(status.waiting_since, now) or 0.0


#: The gauges: name -> (unit, description, function that computes the value). All processes that ship one ledger report
#: the same values, so do not add up the values of several processes.
_GAUGES: dict[str, tuple[str, str, _Value]] = {
    "waiting.rows": ("{row}", "Rows not yet in the warehouse", lambda it, now: it.waiting_rows),
    "waiting.age": ("s", "Age of the oldest waiting row", _oldest),
    "shipped.age": (
        "s",
        "Time since the last batch arrived, from any process",
        lambda it, now: _since(it.shipped_at, now),
    ),
    "refused.events": ("{event}", "Events that the warehouse refused", lambda it, now: it.refused_events),
    "failure.age": ("s", "Time since the last error", lambda it, now: _since(it.failed_at, now)),
    "rate": ("{row}/s", "Recent rate of shipping", lambda it, now: it.rows_per_second),
    "disk.usage": ("By", "Size of the ledger on disk", lambda it, now: it.disk_bytes),
}


class Instruments:
    """The OpenTelemetry instruments and tracer shared by all relays that report to the same providers.

    Args:
        meter_provider, tracer_provider: Providers that receive metrics and spans; None for the program's global ones.

    Raises:
        MissingExtra: OpenTelemetry's API is not installed.
    """

    def __init__(
        self, *, meter_provider: MeterProvider | None = None, tracer_provider: TracerProvider | None = None
    ) -> None:
        require_extra("telemetry")
        from opentelemetry import metrics, trace

        version = metadata.version(_NAME)
        self.tracer = trace.get_tracer(_NAME, version, tracer_provider)
        meter = metrics.get_meter(_NAME, version, meter_provider)
        self.rows = meter.create_counter("ledger.relay.shipped.rows", "{row}", "Rows that this process shipped")
        self.batches = meter.create_counter(
            "ledger.relay.shipped.batches", "{batch}", "Batches that this process shipped"
        )
        self.failures = meter.create_counter(
            "ledger.relay.failures",
            "{failure}",
            "Errors that stopped this process from shipping; error.type has the code",
        )
        self._watched: weakref.WeakSet[Telemetry] = weakref.WeakSet()
        self._guard = forking.Guard(threading.RLock)
        for name, (unit, description, value) in _GAUGES.items():
            meter.create_observable_gauge(
                f"ledger.relay.{name}", [self._observing(name, value)], unit=unit, description=description
            )

    def watch(self, telemetry: Telemetry) -> None:
        """Observe a relay until it is closed or garbage-collected."""
        with self._guard.lock:
            self._watched.add(telemetry)

    def leave(self, telemetry: Telemetry) -> None:
        """Stop observing a relay; a second call does nothing."""
        with self._guard.lock:
            self._watched.discard(telemetry)

    def _observing(self, name: str, value: _Value) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation

        def observe(options: CallbackOptions) -> Iterator[Observation]:
            with self._guard.lock:
                watched = list(self._watched)
            for each in watched:
                try:
                    found = value(each.status_for(name), each.clock())
                except (LedgerError, OSError):  # the store was closed first, or its file is gone
                    continue
                if found is not None:
                    yield Observation(found, each.attributes)

        return observe


class Telemetry:
    """The metrics and spans of one relay.

    Args:
        warehouse: The warehouse's URL. It distinguishes the relays of one store to several warehouses.
        outbox: The relay's outbox, from which the store's id and the relay's status are read.
        instruments: The instruments; None for those of the program's global providers.
        clock: Returns the present time. Gauges that are ages are computed from it.
    """

    def __init__(
        self, warehouse: str, outbox: Outbox, instruments: Instruments | None = None, *, clock: Clock = utc_now
    ) -> None:
        self.attributes = {"ledger.store.id": outbox.store_id, "ledger.warehouse.url": warehouse}
        self.clock = clock
        self._outbox = outbox
        self._status: RelayStatus | None = None
        self._read_by: set[str] = set()
        self._instruments = instruments or _program_instruments()
        if self._instruments is not None:
            self._instruments.watch(self)

    @contextmanager
    def span(self, step: str, *, rows: int | None = None) -> Iterator[None]:
        """Context manager that records a span around its block.

        Args:
            step: ``begin`` (acquire the lease and recover) or ``send`` (send one batch).
            rows: Number of rows in the batch that is sent; None for ``begin``.
        """
        if self._instruments is None:
            yield
            return
        from opentelemetry.trace import StatusCode

        more = {} if rows is None else {"ledger.batch.rows": rows}
        with self._instruments.tracer.start_as_current_span(
            f"ledger.relay.{step}",
            attributes={**self.attributes, **more},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", error.code if isinstance(error, LedgerError) else type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def shipped(self, rows: int) -> None:
        """Count a batch that arrived."""
        if self._instruments is not None:
            self._instruments.rows.add(rows, self.attributes)
            self._instruments.batches.add(1, self.attributes)

    def failed(self, code: str) -> None:
        """Count a failure."""
        if self._instruments is not None:
            self._instruments.failures.add(1, {**self.attributes, "error.type": code})

    def close(self) -> None:
        """Stop observing."""
        if self._instruments is not None:
            self._instruments.leave(self)

    def status_for(self, gauge: str) -> RelayStatus:
        """Return the relay's status. All gauges of one collection get the same status, so their values are consistent.

        If a gauge asks a second time, a new collection has begun, and the status is read again.
        """
        if self._status is None or gauge in self._read_by:
            self._status = self._outbox.status()
            self._read_by.clear()
        self._read_by.add(gauge)
        return self._status


_SHARED: list[Instruments] = []
_SHARING = forking.Guard(threading.RLock)


def _program_instruments() -> Instruments | None:
    """Return the shared instruments, or None without OpenTelemetry.

    They are made once because an SDK keeps only the first callback of each instrument name.
    """
    with _SHARING.lock:
        if not _SHARED:
            try:
                _SHARED.append(Instruments())
            except MissingExtra:
                return None
        return _SHARED[0]

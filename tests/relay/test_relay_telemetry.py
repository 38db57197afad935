"""What a relay tells OpenTelemetry: metrics and spans as docs/shipping.md lists them, and nothing private.

Each test hands in providers of its own; what uses those of the program runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import gc
import re
import subprocess
import sys
import threading
from pathlib import Path
from weakref import WeakSet

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader, Sum
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from ledger import Change, StoreUnavailable
from ledger.relay.loop import Relay
from ledger.relay.telemetry import Instruments, Telemetry
from ledger.stores.sqlite.store import SqliteStore
from ledger.testing import event
from support.relays import Streams, StreamsSink

PAGE = Path(__file__).parents[2] / "docs" / "shipping.md"
URL = StreamsSink.url
SECRET = "walnut-4711"


class Elsewhere(StreamsSink):
    url = "memory://elsewhere"


class Collected:
    """Providers that keep what they are told in memory."""

    def __init__(self):
        self.reader = InMemoryMetricReader()
        self.exporter = InMemorySpanExporter()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.row_digests = TracerProvider(shutdown_on_exit=False)
        self.row_digests.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.instruments = Instruments(meter_provider=self.meters, tracer_provider=self.row_digests)

    def metrics(self):
        """The metrics of one collection by name."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        assert {scope.scope.name for scope in scopes} <= {"session-ledger"}
        return {metric.name.removeprefix("ledger.relay."): metric for scope in scopes for metric in scope.metrics}

    def values(self, **attributes):
        """The values of one collection, of the series that have these attributes, by the metric's name."""
        wanted = {(f"ledger.{name.replace('_', '.')}", value) for name, value in attributes.items()}
        found = {
            name: [point.value for point in metric.data.data_points if wanted <= set(point.attributes.items())]
            for name, metric in self.metrics().items()
        }
        assert all(len(values) <= 1 for values in found.values())
        return {name: values[0] for name, values in found.items() if values}

    def spans(self):
        """What each span was called, with how many rows, and how it ended."""
        return [
            (
                span.name.removeprefix("ledger.relay."),
                span.attributes.get("ledger.batch.rows"),
                span.status.status_code,
                span.attributes.get("error.type"),
            )
            for span in self.exporter.get_finished_spans()
        ]


@pytest.fixture
def collected(caplog):
    made = Collected()
    yield made
    made.meters.shutdown()
    made.row_digests.shutdown()
    said = [record for record in caplog.get_records("call") if record.name.startswith("opentelemetry")]
    assert said == [], "the SDK reports a callback that raised, and what it cannot take, in its log only"


def append(store, *numbers, value="x"):
    for number in numbers:
        store.append("s", event(number, Change("context", f"{number}", value), user_id=f"user {value}"))


def relay(store, sink, collected, holder="here/x/1", **more):
    return Relay(store.outbox(sink.url), sink, holder=holder, instruments=collected.instruments, **more)


def ship(store, sink, collected):
    """Have a relay ship what it can, and close it."""
    shipping = relay(store, sink, collected)
    with contextlib.suppress(StoreUnavailable):
        shipping.sync()
    shipping.close()


def away(name):
    if name == "send":
        raise StoreUnavailable(f"Nobody answers {SECRET}.")


def test_metrics_say_what_status_says(store, collected):
    append(store, *range(1, 7))
    seconds = iter(range(100))
    sink = StreamsSink(Streams(), unfit=lambda row: row[2] == 3, batch_rows=2)
    with_it = relay(store, sink, collected, now=lambda: float(next(seconds)))
    with_it.sync()
    append(store, 7, 8)
    status = store.outbox(URL).status()
    assert (status.waiting_rows, status.shipped_rows, status.refused_events) == (2, 5, 1)
    assert status.rows_per_second is not None
    values = collected.values()
    assert {name: value for name, value in values.items() if not name.endswith(".age")} == {
        "waiting.rows": 2,
        "shipped.rows": 5,
        "shipped.batches": 3,
        "refused.events": 1,
        "rate": status.rows_per_second,
        "disk.usage": status.disk_bytes,
    }
    with_it.sync()
    assert (collected.values()["waiting.rows"], collected.values()["shipped.rows"]) == (0, 7)


def test_ages_are_seconds_up_to_now(store, collected, clock):
    append(store, 1)
    streams = Streams()
    ship(store, StreamsSink(streams), collected)
    clock.move(10)
    append(store, 2)
    clock.move(20)
    ship(store, StreamsSink(streams, away), collected)
    clock.move(30)
    watched = Telemetry(URL, store.outbox(URL), collected.instruments, clock=clock)
    values = collected.values()
    assert {name: values[name] for name in ("waiting.age", "shipped.age", "failure.age")} == {
        "waiting.age": 50,
        "shipped.age": 60,
        "failure.age": 30,
    }
    clock.move(-120)
    assert collected.values()["failure.age"] == 0, "the clock was set back"
    watched.close()


def test_a_ledger_that_never_shipped_has_no_rate_and_no_age_of_what_never_was(store, collected):
    with_it = relay(store, StreamsSink(Streams()), collected)
    values = collected.values()
    assert values.pop("disk.usage") > 0
    assert values == {"waiting.rows": 0, "waiting.age": 0, "refused.events": 0}
    with_it.close()


def test_the_readme_lists_every_metric_with_its_unit_and_meaning(store, collected):
    append(store, 1, 2)
    sink = StreamsSink(Streams())
    with_it = relay(store, sink, collected)
    with_it.sync()
    append(store, 3)
    with pytest.raises(StoreUnavailable):
        relay(store, StreamsSink(sink.streams, away), collected).sync()
    listed = re.findall(r"^\| `ledger\.relay\.(\S+)` \| `(\S+)` \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    found = collected.metrics()
    assert sorted((name, unit, text.replace("`", "")) for name, unit, text in listed) == sorted(
        (name, metric.unit, metric.description) for name, metric in found.items()
    )
    counted = {name for name, metric in found.items() if isinstance(metric.data, Sum)}
    assert counted == {"shipped.rows", "shipped.batches", "failures"}
    assert all(found[name].data.is_monotonic for name in counted)
    assert all(isinstance(metric.data, Gauge) for name, metric in found.items() if name not in counted)
    for metric in found.values():
        for point in metric.data.data_points:
            more = {"error.type": "store_unavailable"} if metric.name.endswith("failures") else {}
            own = {"ledger.store.id": store.store_id, "ledger.warehouse.url": URL}
            assert dict(point.attributes) == {**own, **more}


def test_the_readme_names_the_spans_and_the_attributes(store, collected):
    append(store, 1)
    with pytest.raises(StoreUnavailable):
        relay(store, StreamsSink(Streams(), away), collected).sync()
    spans = collected.exporter.get_finished_spans()
    told = {span.name for span in spans} | {name for span in spans for name in span.attributes}
    assert told <= set(re.findall(r"`([\w.]+)`", PAGE.read_text("utf-8")))


def test_each_batch_is_a_span_with_how_many_rows_it_has(store, collected):
    append(store, *range(1, 6))
    relay(store, StreamsSink(Streams(), batch_rows=2), collected).sync()
    fine = (StatusCode.UNSET, None)
    assert collected.spans() == [("begin", None, *fine), ("send", 2, *fine), ("send", 2, *fine), ("send", 1, *fine)]
    for span in collected.exporter.get_finished_spans():
        assert span.kind is SpanKind.INTERNAL
        assert (span.attributes["ledger.store.id"], span.attributes["ledger.warehouse.url"]) == (store.store_id, URL)


def test_spans_of_a_sync_lie_within_the_span_of_who_called_it(store, collected):
    append(store, 1)
    with collected.row_digests.get_tracer("the program").start_as_current_span("request") as request:
        relay(store, StreamsSink(Streams()), collected).sync()
    spans = [span for span in collected.exporter.get_finished_spans() if span.name != "request"]
    assert [span.parent.span_id for span in spans] == [request.get_span_context().span_id] * 2


@pytest.mark.parametrize(
    ("step", "error", "code", "spans"),
    [
        ("begin", StoreUnavailable, "store_unavailable", [("begin", None)]),
        ("send", StoreUnavailable, "store_unavailable", [("begin", None), ("send", 1)]),
        ("send", KeyboardInterrupt, "KeyboardInterrupt", [("begin", None), ("send", 1)]),
    ],
)
def test_a_step_that_fails_is_a_span_with_an_error_and_its_code(store, collected, step, error, code, spans):
    def fail(name):
        if name == step:
            raise error(SECRET)

    append(store, 1)
    failing = relay(store, StreamsSink(Streams(), fail), collected)
    with pytest.raises(error):
        failing.sync()
    *fine, last = spans
    expected = [(*span, StatusCode.UNSET, None) for span in fine] + [(*last, StatusCode.ERROR, code)]
    assert collected.spans() == expected
    failures = collected.metrics().get("failures")
    counted = {point.attributes["error.type"]: point.value for point in failures.data.data_points} if failures else {}
    assert counted == ({} if error is KeyboardInterrupt else {code: 1})


def test_neither_values_nor_the_words_of_a_warehouse_go_out(store, collected):
    class Quoting(StreamsSink):
        def send(self, place, batch, content):
            from ledger.errors import RowsRefused

            raise RowsRefused(f"Cannot convert {SECRET!r}.", {0: f"Bad value {SECRET!r}"})

    append(store, 1, 2, value=SECRET)
    streams = Streams()
    ship(store, Quoting(streams), collected)
    append(store, 3, value=SECRET)
    ship(store, StreamsSink(streams, away), collected)
    watched = Telemetry(URL, store.outbox(URL), collected.instruments)
    assert SECRET in store.outbox(URL).status().last_error
    assert SECRET in store.outbox(URL).refused()[0].reason
    told = collected.reader.get_metrics_data().to_json() + "".join(
        span.to_json() for span in collected.exporter.get_finished_spans()
    )
    assert "rows_refused" in told
    assert "ledger.relay.refused.events" in told
    for private in (SECRET, "Cannot convert", "Bad value"):
        assert private not in told
    assert not any(span.events for span in collected.exporter.get_finished_spans())
    watched.close()


def test_a_relay_that_is_closed_is_observed_no_more_and_what_it_shipped_stays_counted(store, collected):
    append(store, 1, 2)
    first = relay(store, StreamsSink(Streams()), collected)
    first.sync()
    first.close()
    first.close()
    assert collected.values() == {"shipped.rows": 2, "shipped.batches": 1}


def test_a_relay_that_nobody_holds_any_more_is_not_kept_alive_to_be_observed(store, collected):
    held = relay(store, StreamsSink(Streams()), collected)
    assert "waiting.rows" in collected.values()
    del held
    gc.collect()
    assert collected.values() == {}


def test_a_store_that_was_closed_before_its_relay_is_passed_over(tmp_path, store, collected):
    other = SqliteStore(tmp_path / "other.db")
    relays = [relay(each, StreamsSink(Streams()), collected) for each in (store, other)]
    assert {"waiting.rows"} < collected.values(store_id=other.store_id).keys()
    other.close()
    assert "waiting.rows" not in collected.values(store_id=other.store_id)
    assert "waiting.rows" in collected.values(store_id=store.store_id)
    for each in relays:
        each.close()


def test_relays_of_one_process_are_told_apart(tmp_path, store, collected):
    other = SqliteStore(tmp_path / "other.db")
    append(store, 1, 2, 3)
    append(other, 1)
    warehouse = Streams()
    relays = [
        relay(store, StreamsSink(warehouse), collected),
        relay(other, StreamsSink(warehouse), collected),
        relay(store, Elsewhere(Streams()), collected),
    ]
    relays[0].sync()

    def waiting_and_shipped(ledger, url):
        values = collected.values(store_id=ledger.store_id, warehouse_url=url)
        return values["waiting.rows"], values.get("shipped.rows")

    assert waiting_and_shipped(store, URL) == (0, 3)
    assert waiting_and_shipped(other, URL) == (1, None)
    assert waiting_and_shipped(store, Elsewhere.url) == (3, None)
    for each in relays:
        each.close()
    other.close()


def test_a_collection_asks_the_store_once_so_that_its_values_go_together(store, collected):
    class Counting:
        store_id = "a"

        def __init__(self, outbox):
            self.outbox = outbox
            self.asked = 0

        def status(self):
            self.asked += 1
            append(store, 10 + self.asked)
            return self.outbox.status()

    counting = Counting(store.outbox(URL))
    watched = Telemetry(URL, counting, collected.instruments)
    assert [collected.values()["waiting.rows"] for _ in range(3)] == [1, 2, 3]
    assert counting.asked == 3
    watched.close()


def test_relays_come_and_go_while_an_exporter_collects(store, collected):
    """One comes while those that are there are gone through: it waits, or the collection would fail."""
    outbox = store.outbox(URL)
    store.close()  # so that all of them are passed over
    watched = [Telemetry(URL, outbox, collected.instruments) for _ in range(3)]
    comes = threading.Thread(target=lambda: watched.append(Telemetry(URL, outbox, collected.instruments)))

    def in_between(frame, what, _):
        if what == "return" and frame.f_code is WeakSet.__iter__.__code__ and comes.ident is None:
            comes.start()
            comes.join(0.1)
        return in_between

    before = sys.gettrace()
    sys.settrace(in_between)
    try:
        assert collected.values() == {}
    finally:
        sys.settrace(before)
    comes.join(60)
    assert len(watched) == 4
    for each in watched:
        each.close()
    assert collected.values() == {}


def run(program, folder):
    """What a program printed that ran in a folder, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_program_without_opentelemetry_ships_and_imports_nothing_of_it(tmp_path):
    program = """
import sys
sys.modules["opentelemetry"] = None
from ledger import SessionLedger
with SessionLedger.open("sqlite:///a.db", warehouse="duckdb:///a.duckdb", relay="background") as ledger:
    ledger.create_session("ada", "How many?")
with SessionLedger.open("sqlite:///a.db", warehouse="duckdb:///a.duckdb") as ledger:
    print(ledger.warehouse.status().waiting_rows)
print(*(name for name in sys.modules if name.startswith("opentelemetry.")))
"""
    assert run(program, tmp_path) == ["0"]


@pytest.mark.parametrize("when", ["before the ledger is opened", "while its relay ships"])
def test_the_providers_of_the_program_are_told_whenever_they_were_set(tmp_path, when):
    early = when.startswith("before")
    program = f"""
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ledger import SessionLedger

reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()

def set_up():
    metrics.set_meter_provider(MeterProvider([reader]))
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(traces)

def show(name):
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == name:
                    print(name, len(metric.data.data_points))

{"set_up()" if early else ""}
with (
    SessionLedger.open("sqlite:///a.db", warehouse="duckdb:///a.duckdb", relay="background") as ledger,
    SessionLedger.open("sqlite:///b.db", warehouse="duckdb:///b.duckdb", relay="background"),
):
    {"" if early else "set_up()"}
    ledger.create_session("ada", "How many?")
    show("ledger.relay.waiting.rows")
show("ledger.relay.shipped.rows")
print(*(span.name for span in exporter.get_finished_spans() if span.name == "ledger.relay.send"))
"""
    assert run(program, tmp_path) == [
        *("ledger.relay.waiting.rows", "2"),
        *("ledger.relay.shipped.rows", "1"),
        "ledger.relay.send",
    ]

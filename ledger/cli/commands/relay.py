"""Commands of the relay: ship what waits, go on shipping, and how that goes."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened, together
from ledger.cli.number_range import NumberRange
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import one_line, safe

if TYPE_CHECKING:
    from ledger.outbox.contract import DeadLetter, RelayStatus
    from ledger.sdk.ledger import SessionLedger
    from ledger.tiers.attached import AttachedWarehouse

COMMANDS: dict[str, click.Command] = {}
#: What the codes of ``sync``, ``relay`` and ``status`` say beside success and errors: an event was refused.
REFUSED = 1


with_warehouse = together(
    click.option(
        "-w",
        "--warehouse",
        envvar="LEDGER_WAREHOUSE",
        show_envvar=True,
        metavar="URL",
        help="bigquery://PROJECT/DATASET or duckdb:///file.duckdb.  [default: the DuckDB file beside the ledger]",
    ),
)


def attached(ledger: SessionLedger, warehouse: str | None) -> AttachedWarehouse:
    """The warehouse that was named, else the DuckDB file beside the ledger.

    Raises:
        CapabilityMissing: The ledger is in BigQuery itself.
    """
    from ledger.cli.commands.warehouse import warehouse_path
    from ledger.tiers.attached import AttachedWarehouse
    from ledger.tiers.opening import require_outbox
    from ledger.warehouse.urls import duckdb_url

    require_outbox(ledger.store)
    return AttachedWarehouse(ledger.store, warehouse or duckdb_url(warehouse_path(ledger)))


@command(
    "sync",
    "ledger sync",
    "ledger sync --warehouse bigquery://my-project/ledger",
    into=COMMANDS,
)
@with_warehouse
def sync(as_json: bool, url: str | None, warehouse: str | None) -> None:
    """Ship what waits in the ledger to its warehouse, once: every row, in order, none twice.

    It may be interrupted anywhere and run again. What the warehouse refuses is put aside and the rest goes on; then
    the exit code is 1.
    """
    with opened(url) as ledger:
        place = attached(ledger, warehouse)
        with progress("Shipping rows", place.status().waiting_rows) as advance:
            sent = place.sync(progress=advance)
        status = place.status()
    if as_json:
        print_json({"sent_rows": sent, **asdict(status)})
    else:
        click.echo(safe(f"{_count(sent, 'row')} shipped to {place.url}; {_left(status)}"))
    _exit(status)


@command(
    "relay",
    "ledger relay --warehouse bigquery://my-project/ledger",
    "ledger relay refused",
    "ledger relay retry",
    into=COMMANDS,
)
@click.argument("action", type=click.Choice(["run", "refused", "retry"]), default="run")
@click.argument("event_id", required=False)
@with_warehouse
@click.option(
    "--age", type=NumberRange(0.01, 3600), default=1.0, show_default=True, help="Seconds that a row waits for others."
)
@click.option(
    "--drain",
    type=NumberRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds to go on shipping after SIGTERM.",
)
def relay(
    as_json: bool,
    url: str | None,
    action: str,
    event_id: str | None,
    warehouse: str | None,
    age: float,
    drain: float,
) -> None:
    """Ship what is appended, by whatever process, until SIGTERM or Ctrl-C; then what waits is shipped first.

    Several may run at once: one ships, and another takes over when it is gone. The log goes to stderr, with --json as
    JSON Lines. `refused` lists the events that the warehouse refused, and `retry` sends them (or the one with
    EVENT_ID) again with the next batch.
    """
    if event_id is not None and action != "retry":
        raise click.UsageError("EVENT_ID goes with retry.", click.get_current_context())
    with opened(url) as ledger:
        place = attached(ledger, warehouse)
        if action == "refused":
            _print_refused(place, as_json=as_json)
        elif action == "retry":
            rows = place.retry(event_id)
            if as_json:
                print_json({"asked_rows": rows})
            else:
                click.echo(f"{_count(rows, 'row')} to be sent again by the next `ledger sync` or relay.")
        else:
            with _log(as_json):
                _run(ledger, place, warehouse, age, drain)
            _exit(place.status())


def _run(ledger: SessionLedger, place: AttachedWarehouse, warehouse: str | None, age: float, drain: float) -> None:
    """Ship until told to stop, then what waits."""
    from ledger.errors import LeaseHeld
    from ledger.relay.background import drain as ship_the_rest
    from ledger.relay.background import run

    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    making = place.relay()
    try:
        logging.getLogger("ledger.relay").info("Shipping %s to %s.", ledger.url, place.url)
        run(making, stop, age=age)
        if drain:
            with suppress(LeaseHeld):  # it was ready to take over, and another ships what is left
                ship_the_rest(making, drain)
    finally:
        making.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    status = place.status()
    logging.getLogger("ledger.relay").info("Stopped: %s", _left(status))


@command("status", "ledger status", "ledger status --json | jq .waiting_rows", into=COMMANDS)
@with_warehouse
def status(as_json: bool, url: str | None, warehouse: str | None) -> None:
    """How shipping to the warehouse goes: what waits and for how long, what was shipped, what was refused.

    The warehouse is not asked. The exit code is 1 where events were refused.
    """
    with opened(url) as ledger:
        found = attached(ledger, warehouse).status()
    if as_json:
        print_json(asdict(found))
    else:
        _print_status(found)
    _exit(found)


def _print_status(found: RelayStatus) -> None:
    from ledger.cli.output.render import emit, facts, when

    age = "" if found.waiting_since is None else f", the oldest for {_ago(found.waiting_since)}"
    last = "" if found.shipped_at is None else f", last {when(found.shipped_at)}"
    error = "none" if found.failed_at is None else f"{_ago(found.failed_at)} ago: {found.last_error}"
    emit(
        facts(
            ("warehouse", found.warehouse),
            ("waiting", f"{_count(found.waiting_rows, 'row')}{age}"),
            ("shipped", _count(found.shipped_rows, "row") + last),
            ("refused", _count(found.refused_events, "event")),
            ("last error", error),
            ("rate", "-" if found.rows_per_second is None else f"{found.rows_per_second:,.0f} rows a second"),
            ("disk", f"{found.disk_bytes / 2**20:,.1f} MiB"),
            ("held by", found.holder or "nobody"),
        )
    )


def _print_refused(place: AttachedWarehouse, *, as_json: bool) -> None:
    found = place.refused()
    if as_json:
        print_json({"refused": [_dead_letter_object(each) for each in found]})
        return
    from ledger.cli.output.render import emit, rows_table

    columns = ("session", "version", "event", "rows", "reason", "asked")
    rows = [(it.session_id, it.version, it.event_id, it.rows, it.reason, it.redriving) for it in found]
    emit(rows_table(columns, rows))


def _dead_letter_object(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter; ``put_at`` and ``asked`` are the names of two of its keys before 0.2, and stay."""
    return asdict(letter) | {"put_at": letter.dead_lettered_at, "asked": letter.redriving}


def _left(status: RelayStatus) -> str:
    waits = f"{_count(status.waiting_rows, 'row')} left." if status.waiting_rows else "nothing waits."
    if status.refused_events:
        waits += f" {_count(status.refused_events, 'event')} refused; see `ledger relay refused`."
    return waits


def _exit(status: RelayStatus) -> None:
    if status.refused_events:
        raise click.exceptions.Exit(REFUSED)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _ago(then: datetime) -> str:
    seconds = max(0.0, (datetime.now(UTC) - then).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def _log(as_json: bool) -> Iterator[None]:
    """The ledger's log on stderr, also where nobody watches: that is what a process's log is for."""
    log, handler = logging.getLogger("ledger"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines() if as_json else _Line("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _Line(logging.Formatter):
    """A line a record, with nothing in it that moves the cursor."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


class _Lines(logging.Formatter):
    """A JSON object a line, with what the record carries beside its message."""

    _ORDINARY = frozenset(vars(logging.makeLogRecord({})))

    def format(self, record: logging.LogRecord) -> str:
        more: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in self._ORDINARY}
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        return json.dumps(
            {"at": at, "level": record.levelname, "message": safe(record.getMessage()), **more}, default=str
        )

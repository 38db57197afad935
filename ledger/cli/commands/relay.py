"""Commands of the relay: ship rows to the warehouse, show the status, list and redrive dead letters."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened, together
from ledger.cli.number_range import NumberRange
from ledger.cli.output.progress import progress
from ledger.cli.output.shapes import print_json
from ledger.cli.output.text import counted, one_line, safe
from ledger.cli.output.waiting import print_elsewhere, print_unreconciled, print_waiting, waiting_objects
from ledger.cli.wording import in_commands
from ledger.errors import InvalidInput
from ledger.holding import ending
from ledger.model.values import check_text
from ledger.settings import LEDGER_WAREHOUSE

if TYPE_CHECKING:
    from ledger.outbox.contract import DeadLetter, RelayStatus
    from ledger.sdk.ledger import SessionLedger
    from ledger.tiers.attached import AttachedWarehouse

COMMANDS: dict[str, click.Command] = {}
#: Exit code of ``sync``, ``relay`` and ``status`` if the warehouse refused an event.
REFUSED = 1
#: Exit code of ``status`` and ``maintain`` if a warehouse holds up the retention of sessions.
HELD_UP = 1
#: Exit code of ``status`` if a row has waited for longer than ``--max-age``.
LATE = 1
#: Exit code of ``status`` if the ledger is a restored backup that was not reconciled.
UNRECONCILED = 1
#: Maximum of ``--max-age`` in seconds: a hundred years.
_LONGEST_AGE = 3_155_760_000
#: Actions of ``ledger relay`` that take ids of events.
_OF_EVENTS = ("redrive", "dismiss")
#: Maps former names of actions of ``ledger relay`` to the present names. The former names are still accepted.
_FORMER_ACTIONS = {"refused": "dead-letters", "retry": "redrive"}

with_warehouse = together(
    click.option(
        "-w",
        "--warehouse",
        envvar=LEDGER_WAREHOUSE.name,
        show_envvar=True,
        metavar="URL",
        help="URL of the warehouse: bigquery://PROJECT/DATASET or duckdb:///file.duckdb.  "
        "[default: the DuckDB file beside the ledger]",
    ),
)


def attached(ledger: SessionLedger, warehouse: str | None) -> AttachedWarehouse:
    """Return the warehouse to which a ledger's rows are shipped.

    Args:
        ledger: The ledger.
        warehouse: URL of the warehouse; None for the DuckDB file of the ledger.

    Raises:
        CapabilityMissing: The ledger is in BigQuery. Such a ledger is its own warehouse, and has no relay.
    """
    from ledger.sdk.queries import warehouse_path
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
    """Ship all waiting rows to the warehouse, then exit.

    Rows are shipped in order, each exactly once. The command can be interrupted and repeated. An event that the
    warehouse refuses becomes a dead letter, and the other events are shipped; the exit code is then 1.
    """
    with opened(url) as ledger:
        target = attached(ledger, warehouse)
        with progress("Shipping rows", target.status().waiting_rows) as advance:
            sent = target.sync(progress=advance)
        status = target.status()
    if as_json:
        print_json({"sent_rows": sent, **asdict(status)})
    else:
        click.echo(safe(f"{counted(sent, 'row')} shipped to {target.url}; {_waiting(status)}"))
    _exit(status)


@command(
    "relay",
    "ledger relay --warehouse bigquery://my-project/ledger",
    "ledger relay dead-letters",
    "ledger relay redrive",
    "ledger relay dismiss EVENT_ID",
    into=COMMANDS,
)
@click.argument(
    "action",
    metavar="[run|dead-letters|redrive|dismiss]",
    type=click.Choice(["run", "dead-letters", *_OF_EVENTS, *_FORMER_ACTIONS]),
    default="run",
)
@click.argument("event_ids", metavar="[EVENT_ID]...", nargs=-1)
@with_warehouse
@click.option(
    "--age",
    type=NumberRange(0.01, 3600),
    default=1.0,
    show_default=True,
    help="Seconds that a row waits for others, to be shipped in one batch.",
)
@click.option(
    "--drain",
    type=NumberRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds to keep shipping waiting rows after SIGTERM.",
)
def relay(
    as_json: bool,
    url: str | None,
    action: str,
    event_ids: tuple[str, ...],
    warehouse: str | None,
    age: float,
    drain: float,
) -> None:
    """Ship rows to the warehouse until SIGTERM or Ctrl-C, then ship the waiting rows and exit.

    A second Ctrl-C ends the command at once.

    The relay ships the appends of every process. Several relays may run: one of them holds the lease and ships, and
    when it stops, another takes over. The log goes to stderr; with --json, as JSON Lines.

    `ledger relay dead-letters` lists the events that the warehouse refused. `ledger relay redrive` requeues all of
    them, or only those with an EVENT_ID. Requeued events are shipped again with the next batch. `ledger relay dismiss`
    dismisses events: they stay in the ledger and out of the warehouse, are still listed, and no longer make exit codes
    1. A dismissed event is requeued only by its EVENT_ID. The former names `refused` and `retry` still work.
    """
    action = _FORMER_ACTIONS.get(action, action)
    if event_ids and action not in _OF_EVENTS:
        raise click.UsageError("EVENT_ID is an argument of `redrive` and `dismiss` only.", click.get_current_context())
    if action == "dismiss" and not event_ids:
        raise click.UsageError("Name at least one EVENT_ID to dismiss.", click.get_current_context())
    with opened(url) as ledger:
        target = attached(ledger, warehouse)
        if action == "dead-letters":
            _print_dead_letters(target, as_json=as_json)
        elif action == "redrive":
            _redrive(target, event_ids, as_json=as_json)
        elif action == "dismiss":
            _dismiss(target, event_ids, as_json=as_json)
        else:
            with _log(as_json):
                _run(ledger, target, age, drain)
            _exit(target.status())


def _redrive(target: AttachedWarehouse, event_ids: Sequence[str], *, as_json: bool) -> None:
    """Requeue the dead letters with these ids, or all that are not dismissed if there are none."""
    _check_refused(target, event_ids)
    rows = sum(target.retry(event_id) for event_id in event_ids) if event_ids else target.retry()
    if as_json:
        print_json({"asked_rows": rows})
    else:
        click.echo(f"{counted(rows, 'row')} to be shipped again by the next `ledger sync` or relay.")


def _dismiss(target: AttachedWarehouse, event_ids: Sequence[str], *, as_json: bool) -> None:
    _check_refused(target, event_ids)
    dismissed = sum(target.dismiss(event_id) for event_id in dict.fromkeys(event_ids))
    if as_json:
        print_json({"dismissed_events": dismissed})
    else:
        click.echo(f"{counted(dismissed, 'event')} dismissed; {_waiting(target.status())}")


def _check_refused(target: AttachedWarehouse, event_ids: Sequence[str]) -> None:
    """Raise InvalidInput if the warehouse has refused no event with one of these ids."""
    refused = {letter.event_id for letter in target.refused()} if event_ids else set()
    for event_id in event_ids:
        if check_text(event_id, "event_id") not in refused:
            raise InvalidInput(
                f"{target.url} has refused no event {event_id!r}; list those that it has: ledger relay dead-letters"
            )


def _run(ledger: SessionLedger, target: AttachedWarehouse, age: float, drain: float) -> None:
    """Ship rows until a signal arrives. Then spend at most ``drain`` seconds on shipping the rows that still wait."""
    from ledger.errors import LeaseHeld
    from ledger.relay.background import drain as ship_waiting
    from ledger.relay.background import run
    from ledger.tiers import elsewhere
    from ledger.tiers.opening import require_outbox

    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        relay = target.relay()
        with ending(relay.close):
            logging.getLogger("ledger.relay").info("Shipping %s to %s.", ledger.url, target.url)
            elsewhere.warn(require_outbox(ledger.store), target.outbox.warehouse)
            run(relay, stop, age=age)
            if drain:
                with suppress(LeaseHeld):  # this relay stood by, and the one with the lease ships the waiting rows
                    ship_waiting(relay, drain)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    logging.getLogger("ledger.relay").info("Stopped: %s", _waiting(target.status()))


@command(
    "status",
    "ledger status",
    "ledger status --max-age 3600",
    "ledger status --json | jq .waiting_rows",
    into=COMMANDS,
)
@with_warehouse
@click.option(
    "--max-age",
    type=NumberRange(0, _LONGEST_AGE),
    metavar="SECONDS",
    help="Exit with 1 if a row has waited for the warehouse for longer, as when no relay runs.",
)
def status(as_json: bool, url: str | None, warehouse: str | None, max_age: float | None) -> None:
    """Show the progress of the relay: rows waiting and shipped, events refused, and the last error.

    It also shows which archived, expired, deleted or purged session waits for which warehouse, and since when, which
    archived sessions are only in another warehouse than this one, and whether the ledger is a restored backup that
    was not reconciled. The command reads the ledger and does not contact the warehouse. The exit code is 1 if events
    were refused, if a session waits for another warehouse than this one, if a purged session is still in a warehouse,
    or if a restored ledger is not reconciled. Rows that wait are no failure, unless --max-age says how long they may.
    """
    from ledger.stores.base import purging_store
    from ledger.tiers.opening import require_outbox

    with opened(url) as ledger:
        relay_status = attached(ledger, warehouse).status()
        store = require_outbox(ledger.store)
        unreconciled = store.unreconciled()
        elsewhere = store.archived_elsewhere(relay_status.warehouse)
        purging = purging_store(ledger.store)
        waiting = [] if purging is None else purging.waiting()
    if as_json:
        lacking = [each._asdict() for each in unreconciled]
        archived = [each._asdict() for each in elsewhere]
        sessions = waiting_objects(waiting)
        print_json(
            {**asdict(relay_status), "sessions": sessions, "unreconciled": lacking, "archived_elsewhere": archived}
        )
    else:
        _print_status(relay_status)
        print_waiting(waiting)
        print_elsewhere(elsewhere, relay_status.warehouse)
        print_unreconciled(store.path, unreconciled)
    since = relay_status.waiting_since
    if max_age is not None and since is not None and (datetime.now(UTC) - since).total_seconds() > max_age:
        if not as_json:
            click.echo(f"A row has waited for more than {max_age:,.10g} s: see that a relay runs, and can ship.")
            click.echo(safe(f"  run: ledger sync --warehouse {shlex.quote(relay_status.warehouse)}"))
        raise click.exceptions.Exit(LATE)
    if unreconciled:
        raise click.exceptions.Exit(UNRECONCILED)
    if any(each.status == "purged" or each.warehouse != relay_status.warehouse for each in waiting):
        raise click.exceptions.Exit(HELD_UP)
    _exit(relay_status)


def _print_status(status: RelayStatus) -> None:
    from ledger.cli.output.render import when
    from ledger.cli.output.tables import emit, facts

    age = "" if status.waiting_since is None else f", the oldest for {_ago(status.waiting_since)}"
    last = "" if status.shipped_at is None else f", last {when(status.shipped_at)}"
    dismissed = f", {status.dismissed_events:,} dismissed" if status.dismissed_events else ""
    error = (
        "none" if status.failed_at is None else f"{_ago(status.failed_at)} ago: {in_commands(status.last_error or '')}"
    )
    emit(
        facts(
            ("warehouse", status.warehouse),
            ("waiting", f"{counted(status.waiting_rows, 'row')}{age}"),
            ("shipped", counted(status.shipped_rows, "row") + last),
            ("refused", counted(status.refused_events, "event") + dismissed),
            ("last error", error),
            ("rate", "-" if status.rows_per_second is None else f"{status.rows_per_second:,.0f} rows a second"),
            ("disk", f"{status.disk_bytes / 2**20:,.1f} MiB"),
            ("held by", status.holder or "no relay"),
        )
    )


def _print_dead_letters(target: AttachedWarehouse, *, as_json: bool) -> None:
    letters = target.refused()
    if as_json:
        print_json({"refused": [_dead_letter_object(letter) for letter in letters]})
        return
    from ledger.cli.output.tables import emit, rows_table

    columns = ("session", "version", "event", "rows", "reason", "redrive", "dismissed")
    rows = [
        (
            *(letter.session_id, letter.version, letter.event_id, letter.rows, letter.reason),
            *(letter.redriving, letter.dismissed),
        )
        for letter in letters
    ]
    emit(rows_table(columns, rows))


def _dead_letter_object(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as a JSON object.

    The object also has the former names of two keys: ``put_at`` has the value of ``dead_lettered_at``, and ``asked``
    that of ``redriving``.
    """
    return asdict(letter) | {"put_at": letter.dead_lettered_at, "asked": letter.redriving}


def _waiting(status: RelayStatus) -> str:
    waiting = f"{counted(status.waiting_rows, 'row')} waiting."
    if status.refused_events:
        waiting += f" {counted(status.refused_events, 'event')} refused; see `ledger relay dead-letters`."
    return waiting


def _exit(status: RelayStatus) -> None:
    if status.refused_events:
        raise click.exceptions.Exit(REFUSED)


def _ago(then: datetime) -> str:
    seconds = max(0.0, (datetime.now(UTC) - then).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def _log(as_json: bool) -> Iterator[None]:
    """Write the ledger's log to stderr in the block of a ``with`` statement, even if stderr is not a terminal."""
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
    """A formatter that writes each record on one line, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


class _Lines(logging.Formatter):
    """A formatter that writes each record as a JSON object on one line. Attributes given as ``extra`` are included."""

    _ORDINARY = frozenset(vars(logging.makeLogRecord({})))

    def format(self, record: logging.LogRecord) -> str:
        extra: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in self._ORDINARY}
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        return json.dumps(
            {"at": at, "level": record.levelname, "message": safe(record.getMessage()), **extra}, default=str
        )

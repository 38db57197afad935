"""Commands that archive and hydrate sessions, and run periodic maintenance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.relay import with_warehouse
from ledger.cli.commands.write import envelope_of, with_envelope
from ledger.cli.number_range import NumberRange
from ledger.cli.output.shapes import print_appended, print_json
from ledger.cli.output.text import safe

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger

COMMANDS: dict[str, click.Command] = {}
#: Maximum values of --retention-days and --max-age-hours. Both are a hundred years.
_DAYS, _HOURS = 36_525, 876_600


@command("archive", "ledger archive SESSION_ID", into=COMMANDS)
@click.argument("session_id")
@with_warehouse
@with_envelope
def archive(as_json: bool, url: str | None, session_id: str, warehouse: str | None, **envelope: Any) -> None:
    """Archive a session: keep its rows only in the warehouse.

    The ledger drops the session's rows only when all of them are in the warehouse. This command drops them if none is
    waiting to be shipped; otherwise a later `ledger maintain` does. The session stays in lists, and is read from the
    warehouse. `ledger hydrate` or any append reopens it.
    """
    with _with_warehouse(url, warehouse) as ledger:
        appended = ledger.archive_session(session_id, **envelope_of(**envelope))
    if appended is not None:
        print_appended(appended, as_json)
    else:
        _print_unchanged(session_id, "is already archived", as_json)


@command("hydrate", "ledger hydrate SESSION_ID", into=COMMANDS)
@click.argument("session_id")
@with_warehouse
@with_envelope
def hydrate(as_json: bool, url: str | None, session_id: str, warehouse: str | None, **envelope: Any) -> None:
    """Hydrate a session: copy its events back from the warehouse, verify the hash chain, and reopen it.

    A session of another ledger in the same warehouse can be hydrated too, and then belongs to this ledger. Archive it
    in the other ledger first.
    """
    with _with_warehouse(url, warehouse) as ledger:
        appended = ledger.hydrate_session(session_id, **envelope_of(**envelope))
    if appended is not None:
        print_appended(appended, as_json)
    else:
        _print_unchanged(session_id, "is not archived", as_json)


@command(
    "maintain",
    "ledger maintain",
    "ledger maintain --max-age-hours 72 --retention-days 365 --json",
    into=COMMANDS,
)
@click.option(
    "--max-age-hours",
    type=NumberRange(0, _HOURS),
    help="Also expire sessions without an event for this many hours.",
)
@click.option(
    "--retention-days",
    type=NumberRange(0, _DAYS),
    help="Also purge sessions, here and in the warehouse, that expired or were archived or deleted this many days ago.",
)
@with_warehouse
def maintain(
    as_json: bool, url: str | None, max_age_hours: float | None, retention_days: float | None, warehouse: str | None
) -> None:
    """Expire and purge old sessions, and drop the rows of archived ones. Run this periodically, for example from cron.

    Sessions whose TTL has ended expire. The rows of archived sessions are dropped from the ledger, after a check that
    the warehouse has them. Sessions are purged only with --retention-days. The command can be interrupted and repeated.
    """
    max_age = None if max_age_hours is None else timedelta(hours=max_age_hours)
    retention = None if retention_days is None else timedelta(days=retention_days)
    with _with_warehouse(url, warehouse) as ledger:
        result = ledger.maintain(max_age=max_age, retention=retention)
    if as_json:
        print_json(asdict(result))
        return
    waiting = f"; {result.waiting:,} waiting to be deleted from another warehouse" if result.waiting else ""
    held_up = (
        f"; {result.held_up:,} not deleted yet, because a warehouse must get their rows or refused them: see "
        "`ledger status` and `ledger relay dead-letters`"
        if result.held_up
        else ""
    )
    click.echo(f"{result.expired:,} expired, {result.dropped:,} dropped, {result.deleted:,} deleted{waiting}{held_up}.")


@contextmanager
def _with_warehouse(url: str | None, warehouse: str | None) -> Iterator[SessionLedger]:
    """Open the ledger at ``url`` with a warehouse attached, for the block of a ``with`` statement.

    The warehouse is the one at the URL ``warehouse``, or by default the DuckDB file of the ledger. A ledger in BigQuery
    is its own warehouse. For such a ledger, ``warehouse`` is ignored.
    """
    from ledger.sdk.ledger import SessionLedger
    from ledger.sdk.queries import warehouse_path
    from ledger.warehouse.urls import duckdb_url

    with opened(url) as ledger:
        if not ledger.store.capabilities.outbox:  # it is in its warehouse already
            yield ledger
            return
        warehouse_url = warehouse or duckdb_url(warehouse_path(ledger))
    with SessionLedger.open(url, create=False, warehouse=warehouse_url, relay="off") as ledger:
        yield ledger


def _print_unchanged(session_id: str, reason: str, as_json: bool) -> None:
    if as_json:
        print_json({"session_id": session_id, "version": None, "event_id": None, "replayed": True})
    else:
        click.echo(safe(f"{session_id} {reason}."))

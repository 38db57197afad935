"""Commands for sessions that are kept in the warehouse alone, and for what is to be done from time to time."""

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
from ledger.cli.output.numbers import NumberRange
from ledger.cli.output.shapes import print_appended, print_json
from ledger.cli.output.text import safe

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger

COMMANDS: dict[str, click.Command] = {}
#: A hundred years, as good as none.
_DAYS, _HOURS = 36_525, 876_600


@command("archive", "ledger archive SESSION_ID", into=COMMANDS)
@click.argument("session_id")
@with_warehouse
@with_envelope
def archive(as_json: bool, url: str | None, session_id: str, warehouse: str | None, **envelope: Any) -> None:
    """Close a session, and keep its rows in the warehouse alone once they have all arrived there.

    They are dropped by `ledger maintain`, or at once where nothing is left to ship. It is still read and listed, and
    `ledger hydrate`, or whatever is appended to it, opens it again.
    """
    with _with_warehouse(url, warehouse) as ledger:
        appended = ledger.archive_session(session_id, **envelope_of(**envelope))
    if appended is not None:
        print_appended(appended, as_json)
    else:
        _nothing(session_id, "is archived already", as_json)


@command("hydrate", "ledger hydrate SESSION_ID", into=COMMANDS)
@click.argument("session_id")
@with_warehouse
@with_envelope
def hydrate(as_json: bool, url: str | None, session_id: str, warehouse: str | None, **envelope: Any) -> None:
    """Open an archived session again; its events come back from the warehouse, and the hash chain is checked.

    A session that only another ledger had is taken over; archive it there first.
    """
    with _with_warehouse(url, warehouse) as ledger:
        appended = ledger.hydrate_session(session_id, **envelope_of(**envelope))
    if appended is not None:
        print_appended(appended, as_json)
    else:
        _nothing(session_id, "is here, and not archived", as_json)


@command(
    "maintain",
    "ledger maintain",
    "ledger maintain --max-age-hours 72 --retention-days 365 --json",
    into=COMMANDS,
)
@click.option(
    "--max-age-hours",
    type=NumberRange(0, _HOURS),
    help="Also end sessions to which nothing has happened for so long.",
)
@click.option(
    "--retention-days",
    type=NumberRange(0, _DAYS),
    help="Delete for good, here and in the warehouse, expired, archived and deleted sessions that ended so long ago.",
)
@with_warehouse
def maintain(
    as_json: bool, url: str | None, max_age_hours: float | None, retention_days: float | None, warehouse: str | None
) -> None:
    """What is to be done from time to time, from cron: end what has expired, drop what is archived, delete what is old.

    Rows of archived sessions are dropped once the warehouse is seen to have them. It may be interrupted and run again.
    """
    max_age = None if max_age_hours is None else timedelta(hours=max_age_hours)
    retention = None if retention_days is None else timedelta(days=retention_days)
    with _with_warehouse(url, warehouse) as ledger:
        done = ledger.maintain(max_age=max_age, retention=retention)
    if as_json:
        print_json(asdict(done))
        return
    waiting = f"; {done.waiting:,} still to be deleted in another warehouse" if done.waiting else ""
    click.echo(f"{done.expired:,} expired, {done.dropped:,} dropped, {done.deleted:,} deleted{waiting}.")


@contextmanager
def _with_warehouse(url: str | None, warehouse: str | None) -> Iterator[SessionLedger]:
    """The ledger with the warehouse that was named, else with the DuckDB file beside it."""
    from ledger.cli.commands.warehouse import warehouse_path
    from ledger.sdk.ledger import SessionLedger
    from ledger.warehouse.urls import duckdb_url

    with opened(url) as ledger:
        if not ledger.store.capabilities.outbox:  # it is in its warehouse already
            yield ledger
            return
        place = warehouse or duckdb_url(warehouse_path(ledger))
    with SessionLedger.open(url, create=False, warehouse=place, relay="off") as found:
        yield found


def _nothing(session_id: str, why: str, as_json: bool) -> None:
    if as_json:
        print_json({"session_id": session_id, "version": None, "event_id": None, "replayed": True})
    else:
        click.echo(safe(f"{session_id} {why}."))

"""Commands that archive and hydrate sessions, and run periodic maintenance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.app import command, opened
from ledger.cli.commands.relay import HELD_UP, with_warehouse
from ledger.cli.commands.write import with_envelope
from ledger.cli.number_range import NumberRange
from ledger.cli.output.shapes import print_appended, print_json
from ledger.cli.output.text import counted, safe
from ledger.cli.output.waiting import print_some, print_waiting, waiting_objects
from ledger.cli.session_ids import SESSION, session_argument

if TYPE_CHECKING:
    from ledger.sdk.ledger import SessionLedger

COMMANDS: dict[str, click.Command] = {}
#: Maximum values of --retention-days and --max-age-hours. Both are a hundred years.
_DAYS, _HOURS = 36_525, 876_600


@command("archive", "ledger archive SESSION_ID", into=COMMANDS)
@session_argument
@with_warehouse
@with_envelope
def archive(as_json: bool, url: str | None, session_id: str, warehouse: str | None, **envelope: Any) -> None:
    """Archive a session: keep its rows only in the warehouse.

    The ledger drops the session's rows only when all of them are in the warehouse. This command drops them if none is
    waiting to be shipped; otherwise a later `ledger maintain` does. The session stays in lists, and every command reads
    it from the warehouse: LEDGER_WAREHOUSE or, without one, the DuckDB file beside the ledger. `ledger hydrate` or any
    append reopens it.
    """
    with with_attached(url, warehouse) as ledger:
        appended = ledger.archive_session(session_id, **envelope)
    if appended is not None:
        print_appended(appended, as_json)
    else:
        _print_unchanged(session_id, "is already archived", as_json)


@command("hydrate", "ledger hydrate SESSION_ID", into=COMMANDS)
@session_argument
@with_warehouse
@with_envelope
def hydrate(as_json: bool, url: str | None, session_id: str, warehouse: str | None, **envelope: Any) -> None:
    """Hydrate a session: copy its events back from the warehouse, verify the hash chain, and reopen it.

    A session of another ledger in the same warehouse can be hydrated too, and then belongs to this ledger. Archive it
    in the other ledger first.
    """
    with with_attached(url, warehouse) as ledger:
        appended = ledger.hydrate_session(session_id, **envelope)
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

    It prints which session waits for which warehouse, and since when. The exit code is 1 if sessions that should be
    purged have rows that wait for a warehouse, or if purged sessions are still in one. If the warehouse is no longer
    used, forget it: `ledger warehouse forget`.
    """
    max_age = None if max_age_hours is None else timedelta(hours=max_age_hours)
    retention = None if retention_days is None else timedelta(days=retention_days)
    with with_attached(url, warehouse) as ledger:
        result = ledger.maintain(max_age=max_age, retention=retention)
    if as_json:
        print_json(asdict(replace(result, sessions=())) | {"sessions": waiting_objects(result.sessions)})
    else:
        earlier = result.deleted_there - result.deleted
        there = f"; {counted(earlier, 'session')} purged before, deleted in the warehouse now" if earlier > 0 else ""
        waiting = f"; {result.waiting:,} waiting to be deleted from another warehouse" if result.waiting else ""
        held_up = f"; {result.held_up:,} held up" if result.held_up else ""
        click.echo(
            f"{result.expired:,} expired, {result.dropped:,} dropped, {result.deleted:,} deleted{there}{waiting}"
            f"{held_up}."
        )
        print_waiting(result.sessions)
    if result.waiting or result.held_up:
        raise click.exceptions.Exit(HELD_UP)


@command(
    "purge",
    "ledger purge SESSION_ID",
    "ledger purge --user user123",
    into=COMMANDS,
)
@click.argument("session_ids", metavar="[SESSION_ID]...", nargs=-1, type=SESSION)
@click.option("--user", metavar="USER", help="Purge all sessions of this user that have ended.")
@with_warehouse
def purge(
    as_json: bool, url: str | None, session_ids: tuple[str, ...], user: str | None, warehouse: str | None
) -> None:
    """Purge deleted, expired or archived sessions, whatever their age: delete their data here and in the warehouse.

    Nothing brings a purged session back. One that has not ended must be deleted first (`ledger delete`), and one with
    rows that are not shipped yet is held up: run `ledger sync` first. The command can be interrupted and repeated. It
    prints which session waits for which warehouse. The exit code is 1 if a session was held up or is still in a
    warehouse or, with --user, if sessions of the user have not ended.
    """
    if bool(session_ids) == (user is not None):
        raise click.UsageError("Name either sessions or a --user.", click.get_current_context())
    with with_attached(url, warehouse) as ledger:
        open_ids: list[str] = []
        if user is not None:
            session_ids, open_ids = _sessions_of(ledger, user)
        result = ledger.purge_sessions(session_ids)
    if as_json:
        print_json(
            {
                "purged": result.purged,
                "held_up": result.held_up,
                "not_ended": open_ids,
                "sessions": waiting_objects(result.sessions),
            }
        )
    else:
        held_up = f"; {len(result.held_up):,} held up" if result.held_up else ""
        click.echo(f"{counted(len(result.purged), 'session')} purged{held_up}.")
        if open_ids:
            click.echo(safe(f"{counted(len(open_ids), 'session')} of {user} not ended; run: ledger delete SESSION_ID"))
            print_some(open_ids)
        print_waiting(result.sessions)
    if result.held_up or result.sessions or open_ids:
        raise click.exceptions.Exit(HELD_UP)


def _sessions_of(ledger: SessionLedger, user: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the ids of a user's sessions that are recorded as ended, and of the others."""
    from ledger.sdk.archive import ENDED

    sessions = [*ledger.iter_sessions(user, status="deleted"), *ledger.iter_sessions(user)]
    ended = tuple(each.session_id for each in sessions if each.recorded_status in ENDED)
    return ended, [each.session_id for each in sessions if each.recorded_status not in ENDED]


@contextmanager
def with_attached(url: str | None, warehouse: str | None) -> Iterator[SessionLedger]:
    """Open the ledger at ``url`` with a warehouse attached, for the block of a ``with`` statement.

    The warehouse is the one at the URL ``warehouse``, or by default the DuckDB file of the ledger. A ledger in BigQuery
    is its own warehouse. For such a ledger, ``warehouse`` is ignored.
    """
    from ledger.sdk.ledger import SessionLedger

    with opened(url) as ledger:
        if warehouse is None or not ledger.store.capabilities.outbox:
            yield ledger
            return
    with SessionLedger.open(url, create=False, warehouse=warehouse, relay="off") as ledger:
        yield ledger


def _print_unchanged(session_id: str, reason: str, as_json: bool) -> None:
    if as_json:
        print_json({"session_id": session_id, "version": None, "event_id": None, "replayed": True})
    else:
        click.echo(safe(f"{session_id} {reason}."))
